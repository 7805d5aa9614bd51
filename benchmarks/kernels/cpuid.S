/* Two instructions and one CPUID exit an iteration. */
        .text
        .globl kernel
kernel:
        push %ebx
        push %esi
        mov $ROUNDS, %esi
1:      xor %eax, %eax
        cpuid
        dec %esi
        jnz 1b
        mov %esi, %eax
        pop %esi
        pop %ebx
        ret
