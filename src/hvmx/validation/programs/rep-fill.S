/* REP STOSB, STOSL and STOSQ of 16 bytes to 2 KB. */
#include "program.inc"
        mov %rdi, %r8
        mov $40, %r9d
        mov $7, %eax
1:      mov $16, %r10d
2:      mov %r8, %rdi
        mov %r10d, %ecx
        rep stosb
        lea 4096(%r8), %rdi
        mov %r10d, %ecx
        shr $2, %ecx
        rep stosl
        mov %r8, %rdi
        mov %r10d, %ecx
        shr $3, %ecx
        rep stosq
        mov 8(%r8), %rdx
        lea 1(%rax, %rdx, 2), %rax
        shl $1, %r10d
        cmp $2048, %r10d
        jbe 2b
        dec %r9d
        jnz 1b
        ret
