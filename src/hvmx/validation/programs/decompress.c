/* A decompressor of literals and of copies of what came before, as LZ77 has them. */
#include "program.h"

struct state { uint32_t chance; uint8_t packed[2048], plain[8192 + 64]; };

word run(void *data)
{
    struct state *state = data;
    uint8_t *from = state->packed, *to = state->plain, *end = to + 8192;
    word sum = 0;
    for (int i = 0; i < 2048; i += 4)
        *(uint32_t *)(state->packed + i) = draw(&state->chance);
    for (int i = 0; i < 64; i++)
        *to++ = i;
    while (to < end && from < state->packed + 2046) {
        uint8_t token = *from++;
        if (token & 0x80) {
            int count = (token & 15) + 3;
            const uint8_t *source = to - (*from++ & 63) - 1;
            while (count--)
                *to++ = *source++;
        } else {
            *to++ = *from++ ^ token;
        }
    }
    for (const uint8_t *at = state->plain; at < to; at += 16)
        sum = sum * 3 + *at;
    return sum;
}
