/* Branches that are always predicted: taken ones one after the other, and conditions that repeat. */
#include "program.inc"
        mov $2500, %ecx
        xor %eax, %eax
        .p2align 4
1:      test $1, %cl
        jz 2f
        add $3, %eax
        jmp 3f
2:      add $5, %eax
        jmp 4f
        .p2align 4
3:      xor $9, %eax
4:      jmp 5f
        .p2align 4
6:      test $3, %cl
        jnz 7f
        sub $1, %eax
7:      cmp $0, %ecx
        je 8f
        add $2, %eax
        dec %ecx
        jnz 1b
        jmp 8f
        .p2align 4
5:      add $7, %eax
        jmp 6b
8:      ret
