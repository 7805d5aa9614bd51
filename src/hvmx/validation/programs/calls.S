/* A chain of calls eight deep, each with a little work before and after. */
#include "program.inc"
        mov $1200, %ecx
        xor %eax, %eax
1:      call level1
        dec %ecx
        jnz 1b
        ret
        .macro level number, next
        .p2align 4
level\number:
        add $\number, %rax
        call level\next
        xor $\number, %rax
        ret
        .endm
        level 1, 2
        level 2, 3
        level 3, 4
        level 4, 5
        level 5, 6
        level 6, 7
        level 7, 8
        .p2align 4
level8: rol $1, %rax
        ret
