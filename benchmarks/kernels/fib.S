/* Calls and stack traffic: recursive Fibonacci of 30 in each round, argument on the stack, as a compiler
 * that inlines nothing writes it. */
#define N 30

        .text
        .globl kernel
kernel:
        push %ebp
        push %edi
        mov $ROUNDS, %ebp
        xor %edi, %edi
1:      push $N
        call fib
        add $4, %esp
        rol $1, %edi
        add %eax, %edi
        dec %ebp
        jnz 1b
        mov %edi, %eax
        pop %edi
        pop %ebp
        ret

fib:
        push %ebx
        push %esi
        mov 12(%esp), %ebx
        mov %ebx, %eax
        cmp $2, %ebx
        jb 1f
        lea -1(%ebx), %eax
        push %eax
        call fib
        mov %eax, %esi
        lea -2(%ebx), %eax
        mov %eax, (%esp)
        call fib
        add %esi, %eax
        add $4, %esp
1:      pop %esi
        pop %ebx
        ret
