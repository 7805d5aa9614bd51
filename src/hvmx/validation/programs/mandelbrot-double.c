/* A small picture of the Mandelbrot set: scalar SSE2, and loops that end when the numbers say so. */
#include "program.h"

word run(void *data)
{
    uint32_t *state = data;
    word sum = 0;
    double shift = (draw(state) & 0xff) / 4096.0;
    for (int row = 0; row < 16; row++)
        for (int column = 0; column < 24; column++) {
            double a = column / 8.0 - 2 + shift, b = row / 8.0 - 1 + shift, x = 0, y = 0;
            int count = 0;
            for (; count < 40 && x * x + y * y < 4; count++) {
                double next = x * x - y * y + a;
                y = 2 * x * y + b;
                x = next;
            }
            sum = sum * 3 + count;
        }
    return sum;
}
