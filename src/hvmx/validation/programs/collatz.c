/* How long numbers take to come down to one. */
#include "program.h"

word run(void *data)
{
    uint32_t *state = data;
    word steps = 0;
    for (int i = 0; i < 120; i++)
        for (uint64_t n = (draw(state) & 0xfffff) + 1; n != 1; steps++) {
            if (n & 1)
                n = 3 * n + 1;
            else
                n >>= 1;
        }
    return steps;
}
