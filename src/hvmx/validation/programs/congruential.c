/* Two linear congruential generators, of 32 and of 64 bits, side by side. */
#include "program.h"

word run(void *data)
{
    uint64_t x = *(uint64_t *)data + 1, sum = 0;
    uint32_t y = 7;
    for (int i = 0; i < 10000; i++) {
        x = x * 6364136223846793005 + 1442695040888963407;
        y = y * 1664525 + 1013904223;
        sum += (x >> 33) + (y >> 16);
    }
    return sum;
}
