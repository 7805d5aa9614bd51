/* Eight registers that have nothing to do with each other: as wide as the processor is. */
#include "program.inc"
        push %rbx
        push %rbp
        mov $3000, %ecx
        xor %eax, %eax
        xor %ebx, %ebx
        xor %edx, %edx
        xor %esi, %esi
        xor %ebp, %ebp
        xor %r8d, %r8d
        xor %r9d, %r9d
        xor %r10d, %r10d
        .p2align 5
1:      add $1, %rax
        lea 3(%rbx), %rbx
        sub $5, %rdx
        xor $7, %rsi
        add $9, %rbp
        or $11, %r8
        add $13, %r9
        xor %ecx, %r10d
        add $2, %rax
        add $4, %rbx
        xor $6, %rdx
        lea 8(%rsi), %rsi
        and $-3, %rbp
        add $12, %r8
        sub $14, %r9
        add $16, %r10
        dec %ecx
        jnz 1b
        add %rbx, %rax
        xor %rdx, %rax
        add %rsi, %rax
        xor %rbp, %rax
        add %r8, %rax
        xor %r9, %rax
        add %r10, %rax
        pop %rbp
        pop %rbx
        ret
