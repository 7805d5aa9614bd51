/* Merge sort from the bottom up, with a choice that need not be a branch. */
#include "program.h"

#define COUNT 512

struct state { uint32_t chance, values[2][COUNT]; };

word run(void *data)
{
    struct state *state = data;
    uint32_t *from = state->values[0], *to = state->values[1];
    word sum = 0;
    for (int i = 0; i < COUNT; i++)
        from[i] = draw(&state->chance);
    for (int width = 1; width < COUNT; width *= 2) {
        for (int start = 0; start < COUNT; start += 2 * width) {
            uint32_t *left = from + start, *right = left + width, *end = right + width, *middle = right;
            for (uint32_t *out = to + start; out < to + start + 2 * width; out++) {
                int take_right = left == middle || (right < end && *right < *left);
                *out = take_right ? *right : *left;
                right += take_right;
                left += !take_right;
            }
        }
        uint32_t *other = from;
        from = to;
        to = other;
    }
    for (int i = 0; i < COUNT; i++)
        sum = sum * 31 + from[i];
    return sum;
}
