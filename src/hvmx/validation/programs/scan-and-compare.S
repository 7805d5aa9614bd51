/* REPNE SCASB for a byte that is 200 bytes away, REPE CMPSB of what is the same for 200 bytes. */
#include "program.inc"
        mov %rdi, %r8
        movb $1, 200(%r8)
        movb $1, 712(%r8)
        xor %r10d, %r10d
        mov $60, %r9d
1:      mov %r8, %rdi
        mov $-1, %rcx
        mov $1, %al
        repne scasb
        sub %rcx, %r10
        mov %r8, %rsi
        lea 512(%r8), %rdi
        mov $256, %ecx
        repe cmpsb
        add %rcx, %r10
        mov %r8, %rdi
        mov $25, %ecx
        xor %eax, %eax
        repe scasq
        add %rdi, %r10
        dec %r9d
        jnz 1b
        mov %r10, %rax
        ret
