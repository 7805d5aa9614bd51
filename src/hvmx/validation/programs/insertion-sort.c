/* Insertion sort of 24 keys, sixty times. */
#include "program.h"

word run(void *data)
{
    uint32_t *state = data, *keys = state + 16;
    word sum = 0;
    for (int round = 0; round < 60; round++) {
        for (int i = 0; i < 24; i++)
            keys[i] = draw(state);
        for (int i = 1; i < 24; i++) {
            uint32_t key = keys[i];
            int at = i;
            for (; at > 0 && keys[at - 1] > key; at--)
                keys[at] = keys[at - 1];
            keys[at] = key;
        }
        sum += keys[0] ^ keys[12] ^ keys[23];
    }
    return sum;
}
