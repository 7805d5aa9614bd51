/* Atomic operations on one line that nobody else has. */
#include "program.inc"
        mov $600, %ecx
        mov $1, %edx
        movq $0, (%rdi)
        .p2align 4
1:      lock addq $5, (%rdi)
        mov $3, %eax
        lock xadd %rax, (%rdi)
        add %rax, %rdx
        mov %rdx, %rsi
        xchg %rsi, 8(%rdi)
        mov (%rdi), %rax
        lea 7(%rax), %r8
        lock cmpxchg %r8, (%rdi)
        lock incl 16(%rdi)
        dec %ecx
        jnz 1b
        mov (%rdi), %rax
        add %rdx, %rax
        movq $0, 8(%rdi)
        movq $0, 16(%rdi)
        ret
