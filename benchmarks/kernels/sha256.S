/* SHA-256 (FIPS 180-4) of 64 KB of words n * 0x9e3779b9, ROUNDS times in a row; the checksum is the digest's first
 * word. Rolled loops with a and e in registers and the other six working variables on the stack, as a compiler
 * leaves it that has eight registers. */
#define MESSAGE_SIZE 65536
#define BLOCK_SIZE   64

/* The frame of `compress`: offsets from ESP. */
#define B     0
#define C     4
#define D     8
#define F     12
#define G     16
#define H     20
#define W     24
#define FRAME (W + 64 * 4)

        .text
        .globl kernel
kernel:
        push %ebx
        push %esi
        push %edi
        push %ebp

        xor %ecx, %ecx
1:      imul $0x9e3779b9, %ecx, %eax
        mov %eax, message(, %ecx, 4)
        inc %ecx
        cmp $MESSAGE_SIZE / 4, %ecx
        jb 1b

        movl $ROUNDS, rounds
2:      mov $message, %esi
1:      push %esi
        call compress
        pop %esi
        add $BLOCK_SIZE, %esi
        cmp $message + MESSAGE_SIZE, %esi
        jb 1b
        decl rounds
        jnz 2b

        mov $padding, %esi
        call compress
        mov state, %eax
        pop %ebp
        pop %edi
        pop %esi
        pop %ebx
        ret

/* Takes the block at ESI into `state`. */
compress:
        sub $FRAME, %esp
        xor %edi, %edi
1:      mov (%esi, %edi, 4), %eax
        bswap %eax
        mov %eax, W(%esp, %edi, 4)
        inc %edi
        cmp $16, %edi
        jb 1b

        /* w[t] = s1(w[t - 2]) + w[t - 7] + s0(w[t - 15]) + w[t - 16] */
1:      mov W - 2 * 4(%esp, %edi, 4), %eax
        mov %eax, %edx
        mov %eax, %ebx
        ror $17, %eax
        ror $19, %edx
        xor %edx, %eax
        shr $10, %ebx
        xor %ebx, %eax
        mov W - 15 * 4(%esp, %edi, 4), %ecx
        mov %ecx, %edx
        mov %ecx, %ebx
        ror $7, %ecx
        ror $18, %edx
        xor %edx, %ecx
        shr $3, %ebx
        xor %ebx, %ecx
        add W - 7 * 4(%esp, %edi, 4), %eax
        add W - 16 * 4(%esp, %edi, 4), %ecx
        add %ecx, %eax
        mov %eax, W(%esp, %edi, 4)
        inc %edi
        cmp $64, %edi
        jb 1b

        mov state + 1 * 4, %eax
        mov %eax, B(%esp)
        mov state + 2 * 4, %eax
        mov %eax, C(%esp)
        mov state + 3 * 4, %eax
        mov %eax, D(%esp)
        mov state + 5 * 4, %eax
        mov %eax, F(%esp)
        mov state + 6 * 4, %eax
        mov %eax, G(%esp)
        mov state + 7 * 4, %eax
        mov %eax, H(%esp)
        mov state + 0 * 4, %eax         /* a */
        mov state + 4 * 4, %ecx         /* e */
        xor %edi, %edi

        /* edx = h + S1(e) + ch(e, f, g) + k[t] + w[t]; meanwhile h = g, g = f, f = e */
1:      mov %ecx, %edx
        mov %ecx, %ebx
        ror $6, %edx
        ror $11, %ebx
        xor %ebx, %edx
        mov %ecx, %ebx
        rol $7, %ebx
        xor %ebx, %edx
        mov F(%esp), %esi
        mov G(%esp), %ebp
        mov %ecx, %ebx
        not %ebx
        and %ebp, %ebx
        add H(%esp), %edx
        mov %ebp, H(%esp)
        mov %esi, G(%esp)
        and %ecx, %esi
        xor %esi, %ebx
        add %ebx, %edx
        mov %ecx, F(%esp)
        add k(, %edi, 4), %edx
        add W(%esp, %edi, 4), %edx

        /* ecx = d + edx, edx = edx + S0(a) + maj(a, b, c); meanwhile d = c, c = b, b = a */
        mov D(%esp), %ecx
        add %edx, %ecx
        mov %eax, %ebx
        mov %eax, %esi
        ror $2, %ebx
        ror $13, %esi
        xor %esi, %ebx
        mov %eax, %esi
        rol $10, %esi
        xor %esi, %ebx
        add %ebx, %edx
        mov B(%esp), %esi
        mov C(%esp), %ebp
        mov %ebp, D(%esp)
        mov %esi, C(%esp)
        mov %eax, B(%esp)
        mov %esi, %ebx
        and %ebp, %ebx
        xor %ebp, %esi
        and %esi, %eax
        xor %ebx, %eax
        add %edx, %eax
        inc %edi
        cmp $64, %edi
        jb 1b

        add %eax, state + 0 * 4
        add %ecx, state + 4 * 4
        mov B(%esp), %eax
        add %eax, state + 1 * 4
        mov C(%esp), %eax
        add %eax, state + 2 * 4
        mov D(%esp), %eax
        add %eax, state + 3 * 4
        mov F(%esp), %eax
        add %eax, state + 5 * 4
        mov G(%esp), %eax
        add %eax, state + 6 * 4
        mov H(%esp), %eax
        add %eax, state + 7 * 4
        add $FRAME, %esp
        ret

        .data
        .align 64
k:      .long 0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5
        .long 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174
        .long 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da
        .long 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967
        .long 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85
        .long 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070
        .long 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3
        .long 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
state:  .long 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19
/* The length in bits, and the bytes of both, most significant first. */
#define BITS (ROUNDS * MESSAGE_SIZE * 8)
padding:
        .byte 0x80
        .skip 59
        .byte BITS >> 24, BITS >> 16 & 255, BITS >> 8 & 255, BITS & 255

        .bss
        .align 4096
rounds: .skip 4
        .align 64
message:
        .skip MESSAGE_SIZE
