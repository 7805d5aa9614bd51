/* LODSB, STOSB and MOVSQ without a prefix, as loops in old programs have them. */
#include "program.inc"
        mov %rdi, %r8
        mov $20, %r9d
        xor %edx, %edx
1:      mov %r8, %rsi
        lea 2048(%r8), %rdi
        mov $300, %ecx
2:      lodsb
        add %cl, %al
        stosb
        add %eax, %edx
        dec %ecx
        jnz 2b
        lea 2048(%r8), %rsi
        mov %r8, %rdi
        mov $37, %ecx
3:      movsq
        dec %ecx
        jnz 3b
        dec %r9d
        jnz 1b
        mov %r8, %rdi                   /* zeros again, for the next call */
        xor %eax, %eax
        mov $38, %ecx
4:      mov %rax, (%rdi)
        add $8, %rdi
        dec %ecx
        jnz 4b
        mov %rdx, %rax
        ret
