/* Additions, multiplications and exchanges on the x87 stack, two chains at a time. */
#include "program.inc"
        mov $2500, %ecx
        fldpi
        fld1
        fldl2e
        .p2align 4
1:      fadd %st(2), %st
        fmul %st(1), %st
        fxch %st(1)
        fsub %st(2), %st
        fabs
        fxch %st(1)
        fld %st(1)
        fchs
        faddp
        fldz
        fmulp
        fld1
        faddp
        dec %ecx
        jnz 1b
        faddp
        fmulp
        fstpl (%rdi)
        mov (%rdi), %rax
        movq $0, (%rdi)
        ret
