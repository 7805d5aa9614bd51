/* Decisions without branches: CMOVcc and SETcc on what a generator gives. */
#include "program.inc"
        mov $4000, %ecx
        mov $0x2545f491, %eax
        xor %r8d, %r8d                  /* greatest */
        mov $-1, %r9                    /* smallest */
        xor %r10d, %r10d                /* how many were odd */
        xor %r11d, %r11d
        .p2align 4
1:      imul $0x41c64e6d, %eax, %eax
        add $0x3039, %eax
        cmp %r8, %rax
        cmova %rax, %r8
        cmp %r9, %rax
        cmovb %rax, %r9
        xor %edx, %edx
        test $0x10000, %eax
        setne %dl
        add %edx, %r10d
        mov %eax, %esi
        neg %esi
        cmovs %eax, %esi
        add %rsi, %r11
        dec %ecx
        jnz 1b
        add %r8, %r9
        add %r10, %r9
        lea (%r9, %r11), %rax
        ret
