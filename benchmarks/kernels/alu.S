/* Register arithmetic with live flags and both arms of a branch in turn: nine instructions in an odd iteration,
 * eight in an even one, a million iterations a round, no memory access. */
        .text
        .globl kernel
kernel:
        push %ebx
        push %esi
        push %edi
        push %ebp
        mov $ROUNDS, %ebp
        mov $1, %eax
        mov $2, %ebx
        mov $3, %edx
        mov $4, %edi
2:      mov $1000000, %ecx
1:      add %ecx, %eax
        adc %edx, %edi
        test $1, %cl
        jz 3f
        xor %eax, %edx
        rol $7, %edx
        jmp 4f
3:      lea (%eax, %edi, 2), %ebx
        sub %ebx, %edx
4:      dec %ecx
        jnz 1b
        dec %ebp
        jnz 2b
        mov %edi, %eax
        xor %ebx, %eax
        pop %ebp
        pop %edi
        pop %esi
        pop %ebx
        ret
