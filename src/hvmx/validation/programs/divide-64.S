/* 64-bit division: quotients of many bits and of few, and a dividend of 128 bits. */
#include "program.inc"
        mov $2000, %ecx
        xor %r8d, %r8d
        movabs $0x123456789abcdef0, %r9
        .p2align 4
1:      lea (%r9, %rcx), %rax
        xor %edx, %edx
        mov $977, %esi
        div %rsi
        add %rdx, %r8
        cqto
        mov $0x10001, %esi
        idiv %rsi
        add %rax, %r8
        mov $5, %edx
        mov %r9, %rsi
        div %rsi
        add %rdx, %r8
        dec %ecx
        jnz 1b
        mov %r8, %rax
        ret
