/* One chain of dependent single operations: nothing can overlap. */
#include "program.inc"
        mov $2000, %ecx
        mov $0x12345678, %eax
        mov $0x9e3779b9, %edx
        .p2align 4
1:      add %rdx, %rax
        xor %rdx, %rax
        rol $7, %rax
        sub %rdx, %rax
        not %rax
        lea 5(%rax), %rax
        neg %rax
        ror $3, %rax
        or $1, %rax
        bswap %rax
        btc $11, %rax
        adc $0, %rax
        movzx %ax, %esi
        add %rsi, %rax
        shr $1, %rax
        inc %rax
        dec %ecx
        jnz 1b
        ret
