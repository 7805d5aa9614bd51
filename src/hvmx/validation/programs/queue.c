/* A breadth-first search through a grid of 24 by 24 with walls. */
#include "program.h"

#define N 26

struct state { uint32_t chance; uint8_t wall[N * N]; uint16_t distance[N * N], queue[N * N]; };

word run(void *data)
{
    struct state *state = data;
    static const int16_t STEPS[4] = { -1, 1, -N, N };
    int head = 0, tail = 0;
    word sum = 0;
    for (int i = 0; i < N * N; i++) {
        int x = i % N, y = i / N;
        state->wall[i] = x == 0 || y == 0 || x == N - 1 || y == N - 1 || (draw(&state->chance) & 7) == 0;
        state->distance[i] = 0;
    }
    state->distance[N + 1] = 1;
    state->queue[tail++] = N + 1;
    while (head < tail) {
        int at = state->queue[head++];
        for (int i = 0; i < 4; i++) {
            int next = at + STEPS[i];
            if (!state->wall[next] && !state->distance[next]) {
                state->distance[next] = state->distance[at] + 1;
                state->queue[tail++] = next;
            }
        }
    }
    for (int i = 0; i < N * N; i++)
        sum = sum * 3 + state->distance[i];
    return sum;
}
