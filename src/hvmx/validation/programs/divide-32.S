/* 32-bit division, signed and unsigned: a chain in which each quotient is the next dividend. */
#include "program.inc"
        mov $2500, %ecx
        xor %r8d, %r8d
        .p2align 4
1:      lea 0x7000000(%rcx), %eax
        xor %edx, %edx
        mov $37, %esi
        div %esi
        add %edx, %r8d
        cltd
        mov $11, %esi
        idiv %esi
        add %eax, %r8d
        xor %edx, %edx
        mov $3, %esi
        div %esi
        add %edx, %r8d
        dec %ecx
        jnz 1b
        mov %r8, %rax
        ret
