/* The butterflies of a transform of 128 words modulo a prime, and those of Walsh and Hadamard. */
#include "program.h"

#define N 128
#define P 998244353u
#define FACTOR 31   /* a true root of unity would take as long */

static inline uint32_t times(uint32_t a, uint32_t b)
{
    return (uint64_t)a * b % P;
}

word run(void *data)
{
    uint32_t *x = data, sum = 0;
    for (uint32_t i = 0; i < N; i++)
        x[i] = i * 2654435761u % P;
    for (int half = 1; half < N; half *= 2)
        for (int start = 0; start < N; start += 2 * half) {
            uint32_t factor = 1;
            for (int i = start; i < start + half; i++) {
                uint32_t other = times(x[i + half], factor), old = x[i];
                x[i] = old + other >= P ? old + other - P : old + other;
                x[i + half] = old >= other ? old - other : old + P - other;
                factor = times(factor, FACTOR);
            }
        }
    for (int round = 0; round < 4; round++)
        for (int half = 1; half < N; half *= 2)
            for (int i = 0; i < N; i++)
                if (!(i & half)) {
                    uint32_t a = x[i], b = x[i + half];
                    x[i] = a + b;
                    x[i + half] = a - b;
                }
    for (int i = 0; i < N; i++)
        sum = sum * 3 + x[i];
    return sum;
}
