/* Bytes without a pattern are counted: a load, an addition and a store, now and then to where the last one was. */
#include "program.h"

struct state { uint32_t chance, count[256]; uint8_t bytes[4096]; };

word run(void *data)
{
    struct state *state = data;
    word sum = 0;
    for (int i = 0; i < 256; i++)
        state->count[i] = 0;
    for (int i = 0; i < 4096; i += 4)
        *(uint32_t *)(state->bytes + i) = draw(&state->chance);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 4096; i++)
            state->count[state->bytes[i]]++;
    for (int i = 0; i < 256; i++)
        sum = sum * 3 + state->count[i];
    return sum;
}
