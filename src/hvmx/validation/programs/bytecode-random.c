/* An interpreter that runs a program without loops or patterns: its jumps can hardly be predicted. */
#include "program.h"

struct state { uint32_t chance; uint8_t program[4096]; };

word run(void *data)
{
    struct state *state = data;
    word a = 1, b = 2, c = 3;
    for (int i = 0; i < 4096; i++)
        state->program[i] = draw(&state->chance) & 7;
    for (int i = 0; i < 4096; i++)
        switch (state->program[i]) {
        case 0: a += b; break;
        case 1: b ^= c; break;
        case 2: c = c * 5 + 1; break;
        case 3: a -= c >> 2; break;
        case 4: b += a << 1; break;
        case 5: c ^= a >> 3; break;
        case 6: { word other = a; a = b; b = other; break; }
        case 7: c += b | 1; break;
        }
    return a ^ b ^ c;
}
