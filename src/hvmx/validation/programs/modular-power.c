/* Powers modulo a prime: multiplication and a remainder by division, square after square. */
#include "program.h"

static NOINLINE uint32_t power(uint32_t base, uint32_t exponent, uint32_t modulus)
{
    uint64_t result = 1, square = base;
    for (; exponent; exponent >>= 1) {
        if (exponent & 1)
            result = result * square % modulus;
        square = square * square % modulus;
    }
    return result;
}

word run(void *data)
{
    word sum = *(word *)data;
    for (uint32_t i = 0; i < 60; i++)
        sum += power(i + 2, 0x5a5a5a5b, 0xfffffffb);
    return sum;
}
