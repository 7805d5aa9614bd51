/* REP MOVSB of 1 to 64 bytes, as a memcpy() of short strings. */
#include "program.inc"
        mov %rdi, %r8
        mov $12, %r9d
        xor %eax, %eax
1:      mov $64, %r10d
2:      lea 128(%r8), %rsi
        mov %r8, %rdi
        mov %r10d, %ecx
        rep movsb
        add %rdi, %rax
        dec %r10d
        jnz 2b
        dec %r9d
        jnz 1b
        ret
