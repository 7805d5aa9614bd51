/* RCPPS and RSQRTPS (SDM vol. 2): approximations within 1.5 * 2^-12, in which each maker's processors differ.
 *
 * These are those of Intel's, on every host. The significands are divided into intervals, 2048 for RCPPS and 1024 in
 * each of two binades for RSQRTPS; the result is that of the interval's midpoint, rounded to 13 bits. Subnormal
 * operands and results are zero, and no exception is raised.
 */
#ifndef HVMX_SSE_RECIPROCAL_H
#define HVMX_SSE_RECIPROCAL_H

#include <stdint.h>
#include <string.h>

enum { SINGLE_SIGN = 0x80000000u, SINGLE_INFINITY = 0x7f800000, SINGLE_QUIET = 0x400000, SINGLE_FRACTION = 0x7fffff,
       SINGLE_INDEFINITE = 0xffc00000u, SINGLE_BIAS = 127 };

static inline uint32_t reciprocal(uint32_t x)
{
    uint32_t sign = x & SINGLE_SIGN, exponent = x >> 23 & 0xff;
    uint32_t midpoint = 2 * (x >> 12 & 0x7ff) + 4097; /* in units of 2^-12, as the significand */
    uint32_t rounded = ((1u << 26) + midpoint) / (2 * midpoint);   /* of 2^25 / midpoint: in units of 2^-13 */
    if (exponent == 0xff)
        return x & SINGLE_FRACTION ? x | SINGLE_QUIET : sign;
    if (exponent == 0)
        return sign | SINGLE_INFINITY;
    if (exponent >= 2 * SINGLE_BIAS - 1)
        return sign;
    return sign | (2 * SINGLE_BIAS - 1 - exponent) << 23 | (rounded - 4096) << 11;
}

static inline uint32_t reciprocal_root(uint32_t x)
{
    uint32_t exponent = x >> 23 & 0xff, odd = ~exponent & 1; /* the exponent without its bias is odd */
    uint64_t midpoint = (uint64_t)(2 * (x >> 13 & 0x3ff) + 2049) << odd; /* in units of 2^-11 */
    uint32_t rounded = 0, bit;
    if (exponent == 0xff && x & SINGLE_FRACTION)
        return x | SINGLE_QUIET;
    if (exponent == 0)
        return (x & SINGLE_SIGN) | SINGLE_INFINITY;
    if (x & SINGLE_SIGN)
        return SINGLE_INDEFINITE;
    if (exponent == 0xff)
        return 0;
    for (bit = 4096; bit; bit >>= 1) { /* the root of 2^37 / midpoint, rounded: in units of 2^-13 */
        uint64_t twice = 2 * (rounded | bit) - 1;
        if (twice * twice * midpoint <= (uint64_t)1 << 39)
            rounded |= bit;
    }
    return ((3 * SINGLE_BIAS + odd - exponent) / 2 - 1) << 23 | (rounded - 4096) << 11;
}

/* As the functions of sse_host.h: `count` elements from the source, the others from the destination. */
#define SSE_APPROXIMATION(name, count, approximate)                                                                   \
    static __attribute__((noinline, unused)) uint32_t sse_##name(uint32_t control, void *result,                      \
                                                                 const void *destination, const void *source)         \
    {                                                                                                                 \
        uint32_t elements[4], number;                                                                                 \
        (void)control;                                                                                                \
        memcpy(elements, destination, sizeof elements);                                                               \
        memcpy(elements, source, sizeof *elements * (count));                                                         \
        for (number = 0; number < (count); number++)                                                                  \
            elements[number] = approximate(elements[number]);                                                         \
        memcpy(result, elements, sizeof elements);                                                                    \
        return 0;                                                                                                     \
    }
SSE_APPROXIMATION(rcpps, 4, reciprocal)
SSE_APPROXIMATION(rcpss, 1, reciprocal)
SSE_APPROXIMATION(rsqrtps, 4, reciprocal_root)
SSE_APPROXIMATION(rsqrtss, 1, reciprocal_root)

#endif
