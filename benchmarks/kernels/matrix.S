/* Product of two 128 x 128 matrices of doubles, added to a third in each round: row by row, two columns at a time,
 * as gcc -O2 vectorises the three plain loops over i, k and j. The elements are not exact, so every operation
 * rounds. */
#define N   128
#define ROW (N * 8)

        .text
        .globl kernel
kernel:
        push %ebx
        push %esi
        push %edi
        push %ebp

        /* a[n] = n / 3, b[n] = (N * N - n) / 7 */
        mov $3, %eax
        cvtsi2sd %eax, %xmm2
        mov $7, %eax
        cvtsi2sd %eax, %xmm3
        mov $N * N, %ecx
        xor %eax, %eax
1:      cvtsi2sd %eax, %xmm0
        divsd %xmm2, %xmm0
        movsd %xmm0, a(, %eax, 8)
        cvtsi2sd %ecx, %xmm1
        divsd %xmm3, %xmm1
        movsd %xmm1, b(, %eax, 8)
        inc %eax
        dec %ecx
        jnz 1b

        mov $ROUNDS, %ebp
round:
        mov $a, %esi
        mov $c, %edi            /* row i of c */
3:      mov $b, %ebx            /* row k of b */
2:      movsd (%esi), %xmm1     /* a[i][k], twice */
        unpcklpd %xmm1, %xmm1
        xor %eax, %eax
1:      movapd (%ebx, %eax), %xmm0
        mulpd %xmm1, %xmm0
        addpd (%edi, %eax), %xmm0
        movaps %xmm0, (%edi, %eax)
        add $16, %eax
        cmp $ROW, %eax
        jne 1b
        add $8, %esi
        add $ROW, %ebx
        cmp $b + N * ROW, %ebx
        jne 2b
        add $ROW, %edi
        cmp $c + N * ROW, %edi
        jne 3b
        dec %ebp
        jnz round

        mov $c, %esi
        xor %eax, %eax
1:      rol $1, %eax
        add (%esi), %eax
        add $4, %esi
        cmp $c + N * ROW, %esi
        jne 1b
        pop %ebp
        pop %edi
        pop %esi
        pop %ebx
        ret

        .bss
        .align 4096
a:      .skip N * ROW
b:      .skip N * ROW
c:      .skip N * ROW
