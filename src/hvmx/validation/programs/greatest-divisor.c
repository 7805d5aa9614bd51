/* Greatest common divisors by division. */
#include "program.h"

word run(void *data)
{
    uint32_t *state = data;
    word sum = 0;
    for (int i = 0; i < 300; i++) {
        word a = draw(state), b = draw(state);
        while (b) {
            word rest = a % b;
            a = b;
            b = rest;
        }
        sum += a;
    }
    return sum;
}
