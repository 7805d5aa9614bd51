/* Sums and differences of 32 words through the carry flag, back into memory. */
#include "program.inc"
        mov $250, %r8d
        xor %eax, %eax
        movabs $0x8765432112345678, %r9
1:      mov $31, %ecx
2:      mov %r9, (%rdi, %rcx, 8)
        rol $5, %r9
        add %r8, %r9
        sub $1, %ecx
        jnc 2b
        mov $32, %ecx
        xor %esi, %esi                  /* and no carry */
        .p2align 4
3:      mov (%rdi, %rsi, 8), %rdx
        adc 256(%rdi, %rsi, 8), %rdx
        mov %rdx, 256(%rdi, %rsi, 8)
        lea 1(%rsi), %rsi
        dec %ecx                        /* leaves the carry alone */
        jnz 3b
        sbb %rdx, %rax
        dec %r8d
        jnz 1b
        ret
