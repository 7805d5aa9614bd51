/* SSE4.1's roundings to an integer, in plain C, so that the host need not have them.
 *
 * As in sse_host.h, `control` is the MXCSR to follow, and functions return the exception flags that they raise.
 */
#ifndef HVMX_SSE_ROUND_H
#define HVMX_SSE_ROUND_H

#include "sse_host.h"

enum { MXCSR_IE = 0x01, MXCSR_RC_SHIFT = 13 };
enum { RC_NEAREST, RC_DOWN, RC_UP, RC_TOWARD_ZERO };
enum { ROUND_BY_MXCSR = 4, ROUND_QUIETLY = 8 }; /* of the immediate, whose low bits are an RC of its own */

/* A number in IEEE 754's encoding of `bits`, to an integer in the same encoding. */
static inline uint64_t sse_rounded(uint32_t control, uint64_t number, uint32_t order, int bits, int fraction_bits,
                                   uint32_t *status)
{
    const uint64_t sign_bit = (uint64_t)1 << (bits - 1), implicit = (uint64_t)1 << fraction_bits;
    const uint64_t infinity = sign_bit - implicit, quiet = implicit >> 1;
    const int bias = (1 << (bits - fraction_bits - 2)) - 1;
    const uint64_t sign = number & sign_bit, size = number & ~sign_bit;
    const uint32_t rounding = order & ROUND_BY_MXCSR ? control >> MXCSR_RC_SHIFT & 3 : order & 3;
    const int exponent = (int)(size >> fraction_bits) - bias;
    const int away = rounding == (sign ? RC_DOWN : RC_UP);
    uint64_t rest, half, floor, unit;

    if (size > infinity) {
        if (!(size & quiet))
            *status |= MXCSR_IE;
        return number | quiet;
    }
    if (size < implicit && control & MXCSR_DAZ)
        return sign;
    if (!size || exponent >= fraction_bits)
        return number;
    if (exponent < 0) {
        rest = size;
        half = (uint64_t)(bias - 1) << fraction_bits;
        floor = 0;
        unit = (uint64_t)bias << fraction_bits; /* 1.0 */
    } else {
        unit = implicit >> exponent;
        half = unit >> 1;
        rest = size & (unit - 1);
        floor = size - rest; /* if the unit is the implicit bit, floor's is the exponent's lowest: 1, too */
    }
    if (!rest)
        return number;
    if (!(order & ROUND_QUIETLY))
        *status |= MXCSR_PE;
    if (away || (rounding == RC_NEAREST && (rest > half || (rest == half && floor & unit))))
        floor += unit;
    return sign | floor;
}

#define SSE_ROUND(name, type, bits, fraction_bits, count)                                                             \
    SSE_FUNCTION sse_##name(uint32_t control, void *result, const void *destination, const void *source, uint32_t order) \
    {                                                                                                                 \
        uint32_t status = 0;                                                                                          \
        type number[16 / sizeof(type)];                                                                               \
        memcpy(result, destination, 16);                                                                              \
        memcpy(number, source, (count) * sizeof(type));                                                               \
        for (int i = 0; i < (count); i++)                                                                             \
            number[i] = (type)sse_rounded(control, number[i], order, bits, fraction_bits, &status);                   \
        memcpy(result, number, (count) * sizeof(type));                                                               \
        return status;                                                                                                \
    }
SSE_ROUND(roundps, uint32_t, 32, 23, 4)
SSE_ROUND(roundpd, uint64_t, 64, 52, 2)
SSE_ROUND(roundss, uint32_t, 32, 23, 1)
SSE_ROUND(roundsd, uint64_t, 64, 52, 1)

#endif
