/* Packed integers: sums, products, comparisons, shuffles (PSHUFB too), shifts, and to and fro with general registers. */
#include "program.inc"
        mov $2000, %ecx
        mov $0x01030507, %eax
        movd %eax, %xmm0
        pshufd $0, %xmm0, %xmm0
        movdqa %xmm0, %xmm1
        pcmpeqd %xmm7, %xmm7
        psrlw $12, %xmm7
        packuswb %xmm7, %xmm7
        .p2align 5
1:      movd %ecx, %xmm2
        paddd %xmm2, %xmm0
        pshufb %xmm7, %xmm1
        pmullw %xmm0, %xmm1
        movdqa %xmm1, %xmm3
        pmaddwd %xmm0, %xmm3
        punpcklbw %xmm3, %xmm0
        pcmpgtb %xmm1, %xmm3
        pand %xmm3, %xmm2
        paddb %xmm2, %xmm1
        psrldq $3, %xmm0
        psadbw %xmm1, %xmm2
        pshufd $0x1b, %xmm2, %xmm4
        por %xmm4, %xmm0
        pslld $5, %xmm3
        pxor %xmm3, %xmm1
        pmovmskb %xmm1, %edx
        add %edx, %eax
        pextrw $2, %xmm0, %edx
        add %edx, %eax
        dec %ecx
        jnz 1b
        movq %xmm0, %rdx
        add %rdx, %rax
        ret
