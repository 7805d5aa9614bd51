/* Dependent scalar operations on doubles: addition, multiplication, minimum, and division and root at times. */
#include "program.inc"
        mov $1500, %ecx
        mov $3, %eax
        cvtsi2sd %eax, %xmm0
        mov $7, %eax
        cvtsi2sd %eax, %xmm1
        .p2align 4
1:      addsd %xmm1, %xmm0
        mulsd %xmm1, %xmm0
        subsd %xmm1, %xmm0
        divsd %xmm1, %xmm0
        sqrtsd %xmm0, %xmm0
        cvtsi2sd %ecx, %xmm2
        addsd %xmm2, %xmm0
        maxsd %xmm1, %xmm0
        cvttsd2si %xmm0, %edx
        add %edx, %eax
        ucomisd %xmm1, %xmm0
        adc $0, %eax
        dec %ecx
        jnz 1b
        movq %xmm0, %rdx
        add %rdx, %rax
        ret
