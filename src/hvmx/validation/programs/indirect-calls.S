/* Calls and jumps through a table of addresses, in an order that repeats. */
#include "program.inc"
        mov $3000, %ecx
        xor %eax, %eax
        .p2align 4
1:      mov %ecx, %edx
        and $3, %edx
        call *table(, %rdx, 8)
        mov table + 32(, %rdx, 8), %rsi
        jmp *%rsi
        .p2align 4
there:  add $1, %rax
here:   dec %ecx
        jnz 1b
        ret
        .p2align 4
first:  add $11, %rax
        ret
        .p2align 4
second: xor $12, %rax
        ret
        .p2align 4
third:  rol $1, %rax
        ret
        .p2align 4
fourth: lea 14(%rax), %rax
        ret
        .section .rodata
        .p2align 6
table:  .quad first, second, third, fourth, here, there, there, here
