/* Chains of dependent multiplications: of two and three operands, of one (with its two results), 32 and 64 bits. */
#include "program.inc"
        mov $2500, %ecx
        mov $3, %eax
        mov $0x5851f42d, %r8d
        .p2align 4
1:      imul %r8, %rax
        imul $77, %rax, %rax
        mul %r8
        add %rdx, %rax
        imul %r8d, %eax
        add $9, %rax
        mul %r8d
        xor %edx, %eax
        add $1, %rax
        dec %ecx
        jnz 1b
        ret
