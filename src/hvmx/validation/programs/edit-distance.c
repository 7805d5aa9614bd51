/* The edit distance of two words of 60 letters, a row of the table at a time. */
#include "program.h"

#define LENGTH 60

struct state { uint32_t chance; uint8_t a[LENGTH], b[LENGTH]; uint32_t row[LENGTH + 1]; };

word run(void *data)
{
    struct state *state = data;
    for (int i = 0; i < LENGTH; i++) {
        uint32_t chance = draw(&state->chance);
        state->a[i] = chance & 3;
        state->b[i] = chance >> 8 & 3;
    }
    for (int j = 0; j <= LENGTH; j++)
        state->row[j] = j;
    for (int i = 1; i <= LENGTH; i++) {
        uint32_t corner = state->row[0];
        state->row[0] = i;
        for (int j = 1; j <= LENGTH; j++) {
            uint32_t best = corner + (state->a[i - 1] != state->b[j - 1]);
            corner = state->row[j];
            if (corner + 1 < best)
                best = corner + 1;
            if (state->row[j - 1] + 1 < best)
                best = state->row[j - 1] + 1;
            state->row[j] = best;
        }
    }
    return state->row[LENGTH];
}
