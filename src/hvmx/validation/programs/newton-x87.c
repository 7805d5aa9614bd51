/* Polynomials and square roots by Newton's method, in long double: the x87. */
#include "program.h"

word run(void *data)
{
    long double sum = *(uint32_t *)data;
    for (int i = 1; i <= 300; i++) {
        long double x = i, root = x / 2 + 1, p = 1;
        for (int step = 0; step < 5; step++)
            root = (root + x / root) * 0.5L;
        for (int power = 0; power < 8; power++)
            p = p * root * 0.125L + power;
        sum += p + root;
    }
    return (word)(int64_t)(sum * 1024);
}
