/* Heapsort of 600 numbers. */
#include "program.h"

struct state { uint32_t chance, values[600]; };

static NOINLINE void sift(uint32_t *heap, int at, int count)
{
    uint32_t value = heap[at];
    for (int child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && heap[child + 1] > heap[child])
            child++;
        if (heap[child] <= value)
            break;
        heap[at] = heap[child];
    }
    heap[at] = value;
}

word run(void *data)
{
    struct state *state = data;
    word sum = 0;
    for (int i = 0; i < 600; i++)
        state->values[i] = draw(&state->chance);
    for (int i = 299; i >= 0; i--)
        sift(state->values, i, 600);
    for (int last = 599; last > 0; last--) {
        uint32_t greatest = state->values[0];
        state->values[0] = state->values[last];
        state->values[last] = greatest;
        sift(state->values, 0, last);
    }
    for (int i = 0; i < 600; i++)
        sum = sum * 31 + state->values[i];
    return sum;
}
