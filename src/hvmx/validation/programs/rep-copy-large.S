/* REP MOVSB, MOVSL and MOVSQ of 4 KB within the first-level cache. */
#include "program.inc"
        mov %rdi, %r8
        mov $60, %r9d
        mov $1, %eax
1:      mov %rax, 4096(%r8)
        lea 4096(%r8), %rsi
        mov %r8, %rdi
        mov $4096, %ecx
        rep movsb
        mov %r8, %rsi
        lea 8192(%r8), %rdi
        mov $1024, %ecx
        rep movsl
        lea 8192(%r8), %rsi
        lea 12288(%r8), %rdi
        mov $512, %ecx
        rep movsq
        mov 12288(%r8), %rax
        lea 3(%rax, %rax, 2), %rax
        dec %r9d
        jnz 1b
        ret
