/* The four rounds of MD5, 16 steps each, each step waiting for the one before it; constants of our own. */
#include "program.h"

static inline uint32_t left(uint32_t x, int count)
{
    return x << count | x >> (32 - count);
}

#define STEP(f, a, b, c, d, k, s, t) a = b + left(a + (f) + text[k] + (t) * 0x9e3779b1u, s)
#define FOUR(f, k, s0, s1, s2, s3, t) \
    STEP(f(b, c, d), a, b, c, d, (k) & 15, s0, t), STEP(f(a, b, c), d, a, b, c, ((k) + step) & 15, s1, t + 1), \
    STEP(f(d, a, b), c, d, a, b, ((k) + 2 * step) & 15, s2, t + 2), STEP(f(c, d, a), b, c, d, a, ((k) + 3 * step) & 15, s3, t + 3)
#define F(x, y, z) (z ^ (x & (y ^ z)))
#define G(x, y, z) (y ^ (z & (x ^ y)))
#define H(x, y, z) (x ^ y ^ z)
#define I(x, y, z) (y ^ (x | ~z))
#define ROUND(f, s0, s1, s2, s3, t) \
    FOUR(f, 0, s0, s1, s2, s3, t), FOUR(f, 4 * step, s0, s1, s2, s3, t + 4), \
    FOUR(f, 8 * step, s0, s1, s2, s3, t + 8), FOUR(f, 12 * step, s0, s1, s2, s3, t + 12)

word run(void *data)
{
    uint32_t *text = data, a = 1, b = 2, c = 3, d = 4;
    for (int i = 0; i < 512; i++)
        text[i] = (uint32_t)i * 0x01010101;
    for (int block = 0; block < 64; block++) {
        uint32_t before_a = a, before_b = b;
        enum { step = 1 };
        ROUND(F, 7, 12, 17, 22, 1);
        {
            enum { step = 5 };
            ROUND(G, 5, 9, 14, 20, 17);
        }
        {
            enum { step = 3 };
            ROUND(H, 4, 11, 16, 23, 33);
        }
        {
            enum { step = 7 };
            ROUND(I, 6, 10, 15, 21, 49);
        }
        a += before_a;
        b += before_b;
        text = (uint32_t *)data + (block + 1) % 32 * 16;
    }
    return a ^ b ^ c ^ d;
}
