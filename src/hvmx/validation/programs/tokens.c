/* A state machine that tells words, numbers, blanks and signs apart in a text without a pattern. */
#include "program.h"

struct state { uint32_t chance; uint8_t text[4096]; };

static const char ALPHABET[64] = "abcdefghijklmnopqrstuvwxyz  012345  678 9+-*/()  xyz_abc\n\t  ==<";

word run(void *data)
{
    struct state *state = data;
    enum { BLANK, WORD, NUMBER, SIGN } now = BLANK;
    word counts[4] = { 0, 0, 0, 0 };
    for (int i = 0; i < 4096; i++)
        state->text[i] = ALPHABET[draw(&state->chance) & 63];
    for (int i = 0; i < 4096; i++) {
        uint8_t c = state->text[i];
        switch (now) {
        case WORD:
            if ((c >= 'a' && c <= 'z') || c == '_' || (c >= '0' && c <= '9'))
                continue;
            break;
        case NUMBER:
            if (c >= '0' && c <= '9')
                continue;
            break;
        case BLANK:
            if (c <= ' ')
                continue;
            break;
        case SIGN:
            break;
        }
        now = c <= ' ' ? BLANK : (c >= 'a' && c <= 'z') || c == '_' ? WORD : c >= '0' && c <= '9' ? NUMBER : SIGN;
        counts[now]++;
    }
    return counts[BLANK] + counts[WORD] * 3 + counts[NUMBER] * 1001 + counts[SIGN] * 70001;
}
