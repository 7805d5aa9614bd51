/* UTF-8 of one to four bytes a character, read back. */
#include "program.h"

struct state { uint32_t chance; uint8_t text[4096]; };

word run(void *data)
{
    struct state *state = data;
    uint8_t *to = state->text;
    word sum = 0;
    while (to < state->text + 4000) {
        uint32_t chance = draw(&state->chance), c = chance >> 8 & 0x7f;
        if ((chance & 3) == 0) {
            c = 0x80 + (chance >> 8) % 0x780;
            *to++ = 0xc0 | c >> 6;
            *to++ = 0x80 | (c & 63);
        } else if ((chance & 7) == 1) {
            c = 0x800 + (chance >> 8) % 0xd000;
            *to++ = 0xe0 | c >> 12;
            *to++ = 0x80 | (c >> 6 & 63);
            *to++ = 0x80 | (c & 63);
        } else {
            *to++ = c;
        }
    }
    for (const uint8_t *at = state->text; at < to;) {
        uint32_t c = *at++;
        if (c >= 0xe0) {
            c = (c & 15) << 12 | (at[0] & 63) << 6 | (at[1] & 63);
            at += 2;
        } else if (c >= 0xc0) {
            c = (c & 31) << 6 | (at[0] & 63);
            at++;
        }
        sum = sum * 31 + c;
    }
    return sum;
}
