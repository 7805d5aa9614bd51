/* The stack as a place to save registers: PUSH, POP, PUSHF and a frame by ENTER's parts and LEAVE. */
#include "program.inc"
        mov $2500, %ecx
        mov $1, %eax
        mov $2, %edx
        mov $3, %esi
        .p2align 4
1:      push %rbp
        mov %rsp, %rbp
        sub $32, %rsp
        push %rax
        push %rdx
        push %rsi
        push %rcx
        add %rdx, %rax
        mov %rax, -8(%rbp)
        pop %rcx
        pop %rdx
        pop %rsi
        pop %r8
        add -8(%rbp), %rdx
        add %r8, %rsi
        leave
        dec %ecx
        jnz 1b
        lea (%rax, %rsi), %rax
        ret
