/* Conway's game of life on 32 by 32 cells of a byte each, on a torus. */
#include "program.h"

#define N 32

word run(void *data)
{
    uint8_t *now = data, *next = now + N * N;
    static const uint8_t RULE[2][9] = { { 0, 0, 0, 1, 0, 0, 0, 0, 0 }, { 0, 0, 1, 1, 0, 0, 0, 0, 0 } };
    word sum = 0;
    for (int i = 0; i < N * N; i++)
        now[i] = (i * i + i / 7) % 3 == 0;
    for (int generation = 0; generation < 4; generation++) {
        for (int y = 0; y < N; y++)
            for (int x = 0; x < N; x++) {
                int up = (y + N - 1) % N * N, here = y * N, down = (y + 1) % N * N;
                int left = (x + N - 1) % N, right = (x + 1) % N;
                int count = now[up + left] + now[up + x] + now[up + right] + now[here + left] + now[here + right] +
                            now[down + left] + now[down + x] + now[down + right];
                next[here + x] = RULE[now[here + x]][count];
            }
        uint8_t *other = now;
        now = next;
        next = other;
    }
    for (int i = 0; i < N * N; i++)
        sum = sum * 3 + now[i];
    return sum;
}
