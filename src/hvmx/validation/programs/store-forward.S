/* What was just stored is loaded again: whole, in part, and by another way to address it. */
#include "program.inc"
        mov $2500, %ecx
        mov $0x55, %eax
        lea 64(%rdi), %rsi
        .p2align 4
1:      mov %rax, (%rdi)
        add (%rdi), %rax
        mov %eax, 8(%rdi)
        movzbl 8(%rdi), %edx
        add %rdx, %rax
        mov %rax, 72(%rdi)
        mov 8(%rsi), %rdx
        lea 1(%rax, %rdx), %rax
        mov %ax, 16(%rdi)
        movzwl 16(%rdi), %edx
        xor %rdx, %rax
        addq $3, 24(%rdi)
        add 24(%rdi), %rax
        dec %ecx
        jnz 1b
        movq $0, 24(%rdi)               /* as the next call is to find it */
        ret
