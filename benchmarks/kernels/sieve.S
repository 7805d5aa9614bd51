/* Byte sieve of Eratosthenes: a round clears 4 MB, strikes out the multiples of every prime and counts what
 * is left. */
#define SIZE 4194304
#define ROOT 2048

        .text
        .globl kernel
kernel:
        push %ebx
        push %esi
        push %edi
        push %ebp
        mov $ROUNDS, %ebp
        xor %ebx, %ebx
        mov $flags, %edi
round:
        xor %eax, %eax
1:      movl $0, (%edi, %eax, 4)
        inc %eax
        cmp $SIZE / 4, %eax
        jb 1b

        mov $2, %esi
3:      cmpb $0, (%edi, %esi)
        jne 2f
        mov %esi, %eax
        imul %eax, %eax
1:      movb $1, (%edi, %eax)
        add %esi, %eax
        cmp $SIZE, %eax
        jb 1b
2:      inc %esi
        cmp $ROOT, %esi
        jb 3b

        rol $1, %ebx
        mov $2, %eax
1:      cmpb $1, (%edi, %eax)
        adc $0, %ebx
        inc %eax
        cmp $SIZE, %eax
        jb 1b

        dec %ebp
        jnz round
        mov %ebx, %eax
        pop %ebp
        pop %edi
        pop %esi
        pop %ebx
        ret

        .bss
        .align 4096
flags:  .skip SIZE
