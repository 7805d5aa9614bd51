/* POPCNT, BSF, BSR and BT on what a generator gives. */
#include "program.inc"
        mov $4000, %ecx
        movabs $0x2545f4914f6cdd1d, %rax
        xor %r8d, %r8d
        .p2align 4
1:      mov %rax, %rdx
        shl $13, %rdx
        xor %rdx, %rax
        mov %rax, %rdx
        shr $7, %rdx
        xor %rdx, %rax
        popcnt %rax, %rsi
        add %rsi, %r8
        bsf %rax, %rsi
        add %rsi, %r8
        bsr %rax, %rsi
        sub %rsi, %r8
        bt %rcx, %rax
        adc $0, %r8
        dec %ecx
        jnz 1b
        mov %r8, %rax
        ret
