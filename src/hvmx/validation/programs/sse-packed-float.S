/* Four floats at a time in eight independent accumulators, with loads and stores. */
#include "program.inc"
        mov $1500, %ecx
        mov $0x3f800001, %eax
        movd %eax, %xmm15
        shufps $0, %xmm15, %xmm15
        .irp n, 0, 1, 2, 3, 4, 5, 6, 7
        movaps %xmm15, %xmm\n
        movaps %xmm15, 16 * \n(%rdi)
        .endr
        .p2align 5
1:      .irp n, 0, 1, 2, 3, 4, 5, 6, 7
        mulps %xmm15, %xmm\n
        addps 16 * \n(%rdi), %xmm\n
        .endr
        maxps %xmm1, %xmm0
        subps %xmm3, %xmm2
        unpcklps %xmm5, %xmm4
        movaps %xmm6, 128(%rdi)
        movups 36(%rdi), %xmm8
        andps %xmm15, %xmm8
        addps %xmm8, %xmm7
        dec %ecx
        jnz 1b
        .irp n, 1, 2, 3, 4, 5, 6, 7
        xorps %xmm\n, %xmm0
        .endr
        movq %xmm0, %rax
        ret
