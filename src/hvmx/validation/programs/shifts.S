/* Shifts and rotations by constants, by CL, through the carry, and of two registers. */
#include "program.inc"
        mov $3000, %r8d
        mov $0x1234567, %eax
        mov $0x7654321, %edx
        mov $99, %esi
        .p2align 4
1:      mov %r8d, %ecx
        shl %cl, %rax
        shr $3, %rdx
        ror %cl, %rsi
        sar $2, %esi
        shld $9, %rdx, %rax
        shrd %cl, %rax, %rdx
        rcl $1, %rsi
        rol $13, %eax
        add %r8, %rax
        xor %rax, %rdx
        add %rdx, %rsi
        dec %r8d
        jnz 1b
        add %rsi, %rax
        ret
