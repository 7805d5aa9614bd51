/* Additions, rotations and exclusive ors on four words of 64 bits, as SipHash has them. */
#include "program.h"

static inline uint64_t left(uint64_t x, int count)
{
    return x << count | x >> (64 - count);
}

word run(void *data)
{
    uint64_t *text = data, a = 1, b = 2, c = 3, d = 4;
    for (int i = 0; i < 256; i++)
        text[i] = i * 0x0101010101010101u;
    for (int round = 0; round < 8; round++)
        for (int i = 0; i < 256; i++) {
            d ^= text[i];
            a += b, b = left(b, 13) ^ a, a = left(a, 32);
            c += d, d = left(d, 16) ^ c;
            a += d, d = left(d, 21) ^ a;
            c += b, b = left(b, 17) ^ c, c = left(c, 32);
            a ^= text[i];
        }
    return a ^ b ^ c ^ d;
}
