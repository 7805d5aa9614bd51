/* FSIN, FCOS, FPATAN, F2XM1, FYL2X, FPREM: whole routines in microcode. */
#include "program.inc"
        mov $60, %ecx
        fldz
        .p2align 4
1:      mov %ecx, (%rdi)
        fildl (%rdi)
        fsin
        fildl (%rdi)
        fcos
        fpatan
        faddp
        fld1
        fildl (%rdi)
        fyl2x
        fld1
        fxch
        fprem
        f2xm1
        faddp %st, %st(1)
        faddp
        dec %ecx
        jnz 1b
        fstps (%rdi)                    /* processors agree to single precision */
        mov (%rdi), %eax
        shr $4, %eax
        movq $0, (%rdi)
        ret
