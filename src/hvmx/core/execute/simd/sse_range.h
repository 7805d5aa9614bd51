/* Overflow, underflow and inexact results where overflow or underflow is unmasked.
 *
 * If it is unmasked, it depends on the result as it would be with an unbounded exponent: underflow is raised for exact
 * results, too, and PE only if the significand was rounded (SDM vol. 1, 4.9.1.5, 4.9.1.6, 11.5.2.4 to 11.5.2.6). The
 * host's SSE unit, with all exceptions masked, does not tell. Its x87 unit does: under the precision control of the
 * result's format it rounds to that many bits, and its exponent has room for every sum, product and quotient of two
 * operands.
 */
#ifndef HVMX_SSE_RANGE_H
#define HVMX_SSE_RANGE_H

#include <stdint.h>
#include <string.h>

#include "x87_host.h"

enum { MXCSR_FLAGS = 0x3f, MXCSR_MASKS = 0x1f80, MXCSR_RAISED_BEFORE = 0x07, MXCSR_OE = 0x08, MXCSR_UE = 0x10,
       MXCSR_PE = 0x20, MXCSR_DAZ = 0x40, MXCSR_OM = 0x400, MXCSR_UM = 0x800, MXCSR_FTZ = 0x8000, MXCSR_TO_FCW_ROUNDING = 3 };

typedef uint16_t X87Operation(uint16_t control, X87Register *st, const void *operand);

/* What the operands of a lane are: the same lanes of both vectors, neighbours in one, or a lane of the source and 1. */
enum sse_pairing { SSE_VERTICAL, SSE_HORIZONTAL, SSE_CONVERTED };

typedef struct {
    enum sse_pairing pairing;
    int lanes, bits, result_bits;
    X87Operation *even, *odd; /* by the number of the lane */
} SseRange;

static inline uint64_t sse_range_operand(uint32_t control, const void *vector, int lane, int bits)
{
    const int fraction_bits = bits == 64 ? 52 : 23;
    uint64_t value = 0;
    memcpy(&value, (const uint8_t *)vector + lane * (bits / 8), bits / 8);
    if (control & MXCSR_DAZ && !(value << (64 - bits) << 1 >> (64 - bits) >> 1 >> fraction_bits))
        value = value >> (bits - 1) << (bits - 1);
    return value;
}

/* The flags of one lane's result. */
static inline uint32_t sse_lane_range(uint32_t control, uint64_t first, uint64_t second, const SseRange *range,
                                      X87Operation *operation)
{
    const int precision = range->result_bits == 64 ? 53 : 24, bias = range->result_bits == 64 ? 1023 : 127;
    const uint16_t x87_control = 0x7f | (precision == 53) << 9 | (control >> MXCSR_TO_FCW_ROUNDING & 0xc00);
    X87Register value = { { 0 } };
    uint64_t significand;
    uint16_t sign_and_exponent;
    (range->bits == 64 ? x87_fld64 : x87_fld32)(x87_control, &value, &first);
    const uint32_t inexact = operation(x87_control, &value, &second) & MXCSR_PE;
    memcpy(&significand, value.bytes, 8);
    memcpy(&sign_and_exponent, value.bytes + 8, 2);
    const int exponent = (sign_and_exponent & 0x7fff) - 0x3fff + bias;
    if (!significand || (sign_and_exponent & 0x7fff) == 0x7fff)
        return 0;
    if (exponent > 2 * bias)
        return MXCSR_OE | (control & MXCSR_OM ? MXCSR_PE : inexact);
    if (exponent > 0)
        return inexact;
    if (!(control & MXCSR_UM))
        return MXCSR_UE | inexact;
    const int lost = 64 - precision + 1 - exponent; /* bits of the significand that a denormal does not have */
    if (inexact || control & MXCSR_FTZ || lost > 63 || significand << (64 - lost))
        return MXCSR_UE | MXCSR_PE;
    return 0;
}

/* The flags of an operation that raised `status` with all exceptions masked. */
static __attribute__((noinline, unused)) uint32_t sse_range(uint32_t control, uint32_t status, const void *destination,
                                                            const void *source, const SseRange *range)
{
    const double one = 1;
    status &= MXCSR_RAISED_BEFORE;
    for (int lane = 0; lane < range->lanes; lane++) {
        const void *vectors[2] = { destination, source };
        int lanes[2] = { lane, lane };
        uint64_t operands[2];
        if (range->pairing == SSE_HORIZONTAL) {
            vectors[0] = vectors[1] = 2 * lane < range->lanes ? destination : source;
            lanes[0] = 2 * lane % range->lanes;
            lanes[1] = lanes[0] + 1;
        } else if (range->pairing == SSE_CONVERTED) {
            vectors[0] = source;
            vectors[1] = &one;
            lanes[1] = 0;
        }
        for (int i = 0; i < 2; i++)
            operands[i] = sse_range_operand(control, vectors[i], lanes[i], range->bits);
        status |= sse_lane_range(control, operands[0], operands[1], range, lane & 1 ? range->odd : range->even);
    }
    return status;
}

#endif
