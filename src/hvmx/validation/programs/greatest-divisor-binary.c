/* Greatest common divisors by halving and subtracting. */
#include "program.h"

word run(void *data)
{
    uint32_t *state = data;
    word sum = 0;
    for (int i = 0; i < 200; i++) {
        uint32_t a = draw(state) | 1, b = draw(state) | 1;
        while (a != b) {
            if (a > b) {
                a -= b;
                while (!(a & 1))
                    a >>= 1;
            } else {
                b -= a;
                while (!(b & 1))
                    b >>= 1;
            }
        }
        sum += a;
    }
    return sum;
}
