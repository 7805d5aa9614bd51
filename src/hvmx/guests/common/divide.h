/* 64-bit by 32-bit division without libgcc, which a freestanding 32-bit build may not have. */
#pragma once
#include <stdint.h>

/* Divides *value in place and returns the remainder. */
static inline uint32_t divide(uint64_t *value, uint32_t divisor)
{
#ifdef __x86_64__
    uint32_t remainder = *value % divisor;
    *value /= divisor;
    return remainder;
#else
    uint32_t high = *value >> 32, low = *value, remainder;
    uint32_t quotient_high = high / divisor;
    asm("divl %4" : "=a"(low), "=d"(remainder) : "a"(low), "d"(high % divisor), "rm"(divisor));
    *value = (uint64_t)quotient_high << 32 | low;
    return remainder;
#endif
}
