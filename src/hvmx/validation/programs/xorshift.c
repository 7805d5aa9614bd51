/* Numbers of xorshift64*, summed up: one chain. */
#include "program.h"

word run(void *data)
{
    uint64_t x = *(uint64_t *)data + 88172645463325252, sum = 0;
    for (int i = 0; i < 8000; i++) {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        sum += x * 0x2545f4914f6cdd1d;
    }
    return sum;
}
