/* A matrix of 32 by 32 words transposed in place and copied: loads, stores and the arithmetic of addresses. */
#include "program.h"

#define N 32

word run(void *data)
{
    uint32_t (*a)[N] = data, (*b)[N] = a + N;
    word sum = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            a[i][j] = i * 77 ^ j;
    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < i; j++) {
                uint32_t other = a[i][j];
                a[i][j] = a[j][i];
                a[j][i] = other;
            }
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++)
                b[j][i] = a[i][j] + round;
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            sum = sum * 3 + b[i][j];
    return sum;
}
