/* Numbers searched for in 1024 that are in order. */
#include "program.h"

struct state { uint32_t chance, values[1024]; };

word run(void *data)
{
    struct state *state = data;
    word sum = 0;
    for (uint32_t i = 0; i < 1024; i++)
        state->values[i] = i * 13;
    for (int i = 0; i < 1500; i++) {
        uint32_t wanted = draw(&state->chance) % 13312;
        int low = 0, high = 1024;
        while (low < high) {
            int middle = (low + high) / 2;
            if (state->values[middle] == wanted) {
                sum += middle;
                break;
            }
            if (state->values[middle] < wanted)
                low = middle + 1;
            else
                high = middle;
        }
        sum += low;
    }
    return sum;
}
