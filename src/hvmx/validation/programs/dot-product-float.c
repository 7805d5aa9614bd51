/* Scalar floats: dot products of rows, converted from integers on the way. */
#include "program.h"

struct state { int32_t integers[512]; float x[512], y[512]; };

word run(void *data)
{
    struct state *state = data;
    float total = 0;
    for (int i = 0; i < 512; i++)
        state->integers[i] = i * 3 - 700;
    for (int round = 0; round < 8; round++) {
        float even = 0, odd = 0;
        for (int i = 0; i < 512; i++) {
            state->x[i] = state->integers[i] + round;
            state->y[i] = 1.5f - i;
        }
        for (int i = 0; i < 512; i += 2) {
            even += state->x[i] * state->y[i];
            odd += state->x[i + 1] * state->y[i + 1];
        }
        total += even / 3 - odd / 5;
    }
    return (uint32_t)(int32_t)total;
}
