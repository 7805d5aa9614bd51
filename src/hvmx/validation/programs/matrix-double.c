/* The product of two matrices of 20 by 20 doubles, by scalar operations: one chain of additions an element. */
#include "program.h"

#define N 20

struct state { double a[N][N], b[N][N], c[N][N]; };

word run(void *data)
{
    struct state *state = data;
    double sum = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            state->a[i][j] = i * 0.5 - j;
            state->b[i][j] = (i ^ j) * 0.25;
        }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            double product = 0;
            for (int k = 0; k < N; k++)
                product += state->a[i][k] * state->b[k][j];
            state->c[i][j] = product;
        }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            sum += state->c[i][j] * (i - j + 0.5);
    return (word)(int64_t)sum;
}
