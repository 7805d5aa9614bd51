/* Numbers written in decimal, and read again. */
#include "program.h"

word run(void *data)
{
    uint32_t *state = data;
    char *text = (char *)data + 64;
    word sum = 0;
    for (int i = 0; i < 300; i++) {
        uint32_t n = draw(state) >> (i & 15), digits = 0, back = 0;
        do {
            text[digits++] = '0' + n % 10;
            n /= 10;
        } while (n);
        while (digits)
            back = back * 10 + (text[--digits] - '0');
        sum += back;
    }
    return sum;
}
