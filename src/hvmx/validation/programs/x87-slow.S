/* FDIV, FSQRT and the conversions FILD and FISTP. */
#include "program.inc"
        mov $800, %ecx
        fld1
        .p2align 4
1:      mov %ecx, (%rdi)
        fildl (%rdi)
        fadd %st(1), %st
        fsqrt
        fdiv %st, %st(1)
        fildl (%rdi)
        fdivrp
        faddp
        fld %st
        fistpl 8(%rdi)
        add 8(%rdi), %eax
        dec %ecx
        jnz 1b
        fstpl (%rdi)
        add (%rdi), %rax
        movq $0, (%rdi)
        ret
