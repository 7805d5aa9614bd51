/* The same picture in long double: the x87, and its comparisons. */
#include "program.h"

word run(void *data)
{
    uint32_t *state = data;
    word sum = 0;
    long double shift = (draw(state) & 0xff) / 4096.0L;
    for (int row = 0; row < 12; row++)
        for (int column = 0; column < 20; column++) {
            long double a = column / 8.0L - 2 + shift, b = row / 8.0L - 1 + shift, x = 0, y = 0;
            int count = 0;
            for (; count < 40 && x * x + y * y < 4; count++) {
                long double next = x * x - y * y + a;
                y = 2 * x * y + b;
                x = next;
            }
            sum = sum * 3 + count;
        }
    return sum;
}
