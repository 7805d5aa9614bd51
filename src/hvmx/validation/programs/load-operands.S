/* Arithmetic with operands in memory, and arithmetic on memory itself, at different ways of address. */
#include "program.inc"
        mov $2500, %ecx
        xor %eax, %eax
        mov $4, %edx
        .irp n, 0, 8, 16, 24, 32, 40, 48, 56
        movq $\n, \n(%rdi)
        .endr
        .p2align 4
1:      add (%rdi), %rax
        xor 4(%rdi, %rdx), %rax
        add 16(%rdi, %rdx, 2), %r8
        sub -8(%rdi, %rdx, 8), %r9
        cmp 48(%rdi), %rax
        adc 56(%rdi), %r10
        addq $3, 40(%rdi)
        and %edx, 64(%rdi)
        test %rax, 32(%rdi)
        imul 16(%rdi), %r8
        dec %ecx
        jnz 1b
        add 40(%rdi), %rax
        ret
