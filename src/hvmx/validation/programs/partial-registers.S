/* Bytes and words within registers: AL, AH, AX, and what takes them with zeros or signs. */
#include "program.inc"
        push %rbx
        push %rbp
        mov $3000, %ecx
        mov $0x01020304, %eax
        mov $0x05060708, %ebx
        xor %edx, %edx
        .p2align 4
1:      add %cl, %al
        xor %al, %bl
        add $3, %bx
        movzx %bl, %esi
        movsx %ax, %r8
        add %esi, %edx
        add %r8, %rdx
        mov %dl, %al
        add %bh, %ah
        movzx %ah, %ebp
        xor %ebp, %edx
        shl $1, %dx
        dec %ecx
        jnz 1b
        mov %rdx, %rax
        pop %rbp
        pop %rbx
        ret
