/* The product of two matrices of 24 by 24 integers. */
#include "program.h"

#define N 24

struct state { int32_t a[N][N], b[N][N], c[N][N]; };

word run(void *data)
{
    struct state *state = data;
    word sum = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            state->a[i][j] = i * 3 - j;
            state->b[i][j] = i ^ j * 5;
        }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            int32_t product = 0;
            for (int k = 0; k < N; k++)
                product += state->a[i][k] * state->b[k][j];
            state->c[i][j] = product;
        }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            sum = sum * 3 + (uint32_t)state->c[i][j];
    return sum;
}
