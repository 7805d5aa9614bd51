/* Twenty rounds of ChaCha's quarter rounds on sixteen words. */
#include "program.h"

#define LEFT(x, n) ((x) << (n) | (x) >> (32 - (n)))
#define QUARTER(a, b, c, d) \
    (x[a] += x[b], x[d] = LEFT(x[d] ^ x[a], 16), x[c] += x[d], x[b] = LEFT(x[b] ^ x[c], 12), \
     x[a] += x[b], x[d] = LEFT(x[d] ^ x[a], 8), x[c] += x[d], x[b] = LEFT(x[b] ^ x[c], 7))

word run(void *data)
{
    uint32_t *key = data, x[16], sum = 0;
    for (int i = 0; i < 16; i++)
        key[i] = (uint32_t)i * 0x3c6ef372;
    for (int block = 0; block < 40; block++) {
        for (int i = 0; i < 16; i++)
            x[i] = key[i];
        for (int round = 0; round < 10; round++) {
            QUARTER(0, 4, 8, 12), QUARTER(1, 5, 9, 13), QUARTER(2, 6, 10, 14), QUARTER(3, 7, 11, 15);
            QUARTER(0, 5, 10, 15), QUARTER(1, 6, 11, 12), QUARTER(2, 7, 8, 13), QUARTER(3, 4, 9, 14);
        }
        for (int i = 0; i < 16; i++)
            sum = sum * 5 + (x[i] += key[i]);
        key[12]++;
    }
    return sum;
}
