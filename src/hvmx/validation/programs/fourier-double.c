/* A Fourier transform of 128 complex doubles in place; the twiddle factors by recurrence. */
#include "program.h"

#define N 128

struct state { double real[N], imaginary[N]; };

/* The cosine and sine of 2 pi / 2, / 4, ... / 128. */
static const double STEP[7][2] = {
    { -1, 0 }, { 0, 1 }, { 0.7071067811865476, 0.7071067811865476 }, { 0.9238795325112867, 0.3826834323650898 },
    { 0.9807852804032304, 0.1950903220161283 }, { 0.9951847266721969, 0.0980171403295606 },
    { 0.9987954562051724, 0.0490676743274180 },
};

word run(void *data)
{
    struct state *s = data;
    for (int i = 0; i < N; i++) {
        s->real[i] = i % 17 - 8;
        s->imaginary[i] = i % 5;
    }
    for (int i = 1, j = 0; i < N; i++) {
        int bit = N / 2;
        for (; j & bit; bit >>= 1)
            j ^= bit;
        j ^= bit;
        if (i < j) {
            double real = s->real[i], imaginary = s->imaginary[i];
            s->real[i] = s->real[j], s->imaginary[i] = s->imaginary[j];
            s->real[j] = real, s->imaginary[j] = imaginary;
        }
    }
    for (int level = 0, half = 1; half < N; level++, half *= 2)
        for (int start = 0; start < N; start += 2 * half) {
            double c = 1, d = 0;
            for (int i = start; i < start + half; i++) {
                double real = s->real[i + half] * c - s->imaginary[i + half] * d;
                double imaginary = s->real[i + half] * d + s->imaginary[i + half] * c;
                s->real[i + half] = s->real[i] - real, s->imaginary[i + half] = s->imaginary[i] - imaginary;
                s->real[i] += real, s->imaginary[i] += imaginary;
                double next = c * STEP[level][0] - d * STEP[level][1];
                d = c * STEP[level][1] + d * STEP[level][0];
                c = next;
            }
        }
    double sum = 0;
    for (int i = 0; i < N; i++)
        sum += s->real[i] * i - s->imaginary[i];
    return (word)(int64_t)(sum * 16);
}
