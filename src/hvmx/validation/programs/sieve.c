/* The sieve of Eratosthenes over 8 KB. */
#include "program.h"

#define SIZE 8192

word run(void *data)
{
    uint8_t *composite = data;
    word sum = 0;
    for (int i = 0; i < SIZE; i++)
        composite[i] = 0;
    for (int i = 2; i * i < SIZE; i++)
        if (!composite[i])
            for (int j = i * i; j < SIZE; j += i)
                composite[j] = 1;
    for (int i = 2; i < SIZE; i++)
        sum += composite[i] ? 0 : i;
    return sum;
}
