/* Run-length coding of a text of long and short runs. */
#include "program.h"

struct state { uint32_t chance; uint8_t text[4096], coded[8192]; };

word run(void *data)
{
    struct state *state = data;
    word sum = 0;
    int length = 0;
    for (int i = 0; i < 4096;) {
        uint32_t chance = draw(&state->chance);
        for (int count = (chance & 15) + 1; count && i < 4096; count--)
            state->text[i++] = chance >> 8;
    }
    for (int i = 0; i < 4096;) {
        int start = i;
        while (i < 4096 && state->text[i] == state->text[start] && i - start < 255)
            i++;
        state->coded[length++] = i - start;
        state->coded[length++] = state->text[start];
    }
    for (int i = 0; i < length; i++)
        sum = sum * 3 + state->coded[i];
    return sum;
}
