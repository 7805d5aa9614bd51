/* What the programs in C have in common. Each is one function, run(), at the start of its image. It finds a megabyte of
 * memory at `data`, zero before the first call, and returns a checksum of what it did; it has no other variables, so that
 * an image is code and constants only. */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <stdint.h>

typedef unsigned long word;     /* as wide as a general register */

#define NOINLINE __attribute__((noinline))

word run(void *data);

/* The next of a row of numbers that follow from *state, and look like chance. A program that keeps its state in `data`
 * finds other numbers in each call: no processor learns its branches by heart. */
static inline uint32_t draw(uint32_t *state)
{
    uint32_t z = *state += 0x9e3779b9;
    z = (z ^ z >> 16) * 0x85ebca6b;
    z = (z ^ z >> 13) * 0xc2b2ae35;
    return z ^ z >> 16;
}

#endif
