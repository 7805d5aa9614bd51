/* The most valuable contents of a sack: the greater of two in each step. */
#include "program.h"

#define CAPACITY 512

word run(void *data)
{
    uint32_t *best = data, sum = 0;
    for (int i = 0; i <= CAPACITY; i++)
        best[i] = 0;
    for (int item = 1; item <= 16; item++) {
        int weight = item * 7 % 31 + 1;
        uint32_t value = item * 13 % 37 + 1;
        for (int room = CAPACITY; room >= weight; room--) {
            uint32_t with = best[room - weight] + value;
            best[room] = with > best[room] ? with : best[room];
        }
    }
    for (int i = 0; i <= CAPACITY; i++)
        sum = sum * 3 + best[i];
    return sum;
}
