/* Real numbers with significands of 128 bits, which are rounded to the 64 of an x87 register. All arithmetic is on
 * integers, and so the same on every host.
 *
 * Results are truncated, and if bits are lost, the last bit is set: a sticky bit, so that an inexact number never
 * looks exact, and is rounded to the correct side.
 */
#ifndef HVMX_X87_WIDE_H
#define HVMX_X87_WIDE_H

#include <stdint.h>
#include <string.h>

#include "x87_host.h"

typedef unsigned __int128 uint128;

typedef struct { /* significand * 2^(exponent - 127), where the significand's highest bit is set if it is not zero */
    uint128 significand;
    int exponent, negative;
} Wide;

enum { X87_IE = 0x01, X87_DE = 0x02, X87_ZE = 0x04, X87_OE = 0x08, X87_UE = 0x10, X87_PE = 0x20 };
enum { X87_C1 = 0x200, X87_C2 = 0x400 };
enum { X87_RC = 0xc00, X87_RC_NEAREST = 0, X87_RC_DOWN = 0x400, X87_RC_UP = 0x800 };
enum { X87_SIGN = 0x8000, X87_SPECIAL_EXPONENT = 0x7fff, X87_BIAS = 0x3fff };
enum { X87_WRAP = 24576 }; /* bias adjustment of unmasked overflow and underflow: SDM vol. 1, 8.5.4, 8.5.5 */

#define X87_INTEGER_BIT ((uint64_t)1 << 63)
#define WORDS(high, low) ((uint128)(high) << 64 | (low))
#define WIDE_HIGHEST_BIT ((uint128)1 << 127)

static inline void x87_store(X87Register *st, int sign_and_exponent, uint64_t significand)
{
    const uint16_t high = (uint16_t)sign_and_exponent;
    memcpy(st->bytes, &significand, 8);
    memcpy(st->bytes + 8, &high, 2);
}

/* units * 2^(exponent - 127) */
static inline Wide wide(int negative, int exponent, uint128 units)
{
    const uint64_t high = (uint64_t)(units >> 64);
    Wide result = { units, exponent, negative };
    if (units) {
        const int shift = high ? __builtin_clzll(high) : 64 + __builtin_clzll((uint64_t)units);
        result.significand = units << shift;
        result.exponent -= shift;
    }
    return result;
}

static inline Wide wide_integer(int value)
{
    return wide(value < 0, 127, value < 0 ? -(uint128)value : value);
}

/* The upper half of a product, with its lower half as the sticky bit. */
static inline uint128 multiply(uint128 a, uint128 b, uint128 *low)
{
    const uint64_t a0 = (uint64_t)a, a1 = (uint64_t)(a >> 64), b0 = (uint64_t)b, b1 = (uint64_t)(b >> 64);
    const uint128 low_low = (uint128)a0 * b0, low_high = (uint128)a0 * b1, high_low = (uint128)a1 * b0;
    const uint128 middle = (low_low >> 64) + (uint64_t)low_high + (uint64_t)high_low;
    *low = middle << 64 | (uint64_t)low_low;
    return (uint128)a1 * b1 + (low_high >> 64) + (high_low >> 64) + (middle >> 64);
}

static inline uint128 multiply_high(uint128 a, uint128 b)
{
    uint128 low;
    return multiply(a, b, &low);
}

static inline Wide wide_multiply(Wide a, Wide b)
{
    uint128 low, high = multiply(a.significand, b.significand, &low);
    int exponent = a.exponent + b.exponent + 1;
    if (!(high & WIDE_HIGHEST_BIT)) {
        high = high << 1 | low >> 127;
        low <<= 1;
        exponent--;
    }
    return (Wide){ high | (low != 0), exponent, a.negative ^ b.negative };
}

/* The next 64 bits of the quotient, from a remainder that is less than the divisor. The upper halves give an estimate
 * that is too large by 2 at most (Knuth, The Art of Computer Programming, vol. 2, 4.3.1, theorem B). */
static inline uint64_t next_quotient(uint128 *rest, uint128 divisor)
{
    const uint64_t divisor_high = (uint64_t)(divisor >> 64), divisor_low = (uint64_t)divisor;
    const int most = *rest >> 64 == divisor_high;
    uint64_t quotient = most ? ~(uint64_t)0 : (uint64_t)(*rest / divisor_high);
    uint128 left = *rest - (uint128)quotient * divisor_high; /* followed by 64 zero bits */
    uint128 product = (uint128)quotient * divisor_low;
    while (!(left >> 64) && left << 64 < product) {
        quotient--;
        product -= divisor_low;
        left += divisor_high;
    }
    *rest = (left << 64) - product;
    return quotient;
}

static inline Wide wide_divide(Wide a, Wide b)
{
    const int from_one = a.significand >= b.significand;
    uint128 rest = from_one ? a.significand - b.significand : a.significand;
    const uint64_t first = next_quotient(&rest, b.significand), second = next_quotient(&rest, b.significand);
    uint128 quotient = WORDS(first, second); /* of a fraction of more than a half: so the upper bit is set */
    int lost = rest != 0;
    if (from_one) {
        lost |= quotient & 1;
        quotient = quotient >> 1 | WIDE_HIGHEST_BIT;
    }
    return (Wide){ quotient | lost, a.exponent - b.exponent - !from_one, a.negative ^ b.negative };
}

/* units / 2^shift */
static inline uint128 shifted_out(uint128 units, int shift)
{
    if (shift > 127)
        return units != 0;
    return shift ? units >> shift | (units << (128 - shift) != 0) : units;
}

static inline Wide wide_add(Wide a, Wide b)
{
    uint128 larger, smaller;
    if (!a.significand)
        return b;
    if (!b.significand)
        return a;
    if (a.exponent < b.exponent || (a.exponent == b.exponent && a.significand < b.significand)) {
        const Wide other = a;
        a = b;
        b = other;
    }
    smaller = shifted_out(b.significand, a.exponent - b.exponent);
    if (a.negative != b.negative)
        return wide(a.negative, a.exponent, a.significand - smaller);
    larger = a.significand + smaller;
    if (larger < smaller)
        return (Wide){ larger >> 1 | WIDE_HIGHEST_BIT | (larger & 1), a.exponent + 1, a.negative };
    return (Wide){ larger, a.exponent, a.negative };
}

/* A significand without its lowest bits (64 or more), rounded by RC; and whether it was rounded up. */
static inline uint128 wide_rounded(uint16_t control, Wide value, int lost, int *up)
{
    const uint128 kept = lost < 128 ? value.significand >> lost : 0;
    const uint128 rest = lost < 128 ? value.significand << (128 - lost) : lost == 128 ? value.significand : 1;
    switch (control & X87_RC) {
    case X87_RC_NEAREST:
        *up = rest > WIDE_HIGHEST_BIT || (rest == WIDE_HIGHEST_BIT && kept & 1);
        break;
    case X87_RC_DOWN:
        *up = value.negative && rest;
        break;
    case X87_RC_UP:
        *up = !value.negative && rest;
        break;
    default:
        *up = 0;
    }
    return kept + *up;
}

/* The result of a transcendental instruction, and its exceptions. Overflow and underflow are detected after rounding.
 * PE is always raised, as on processors, although a few values are exact. */
static inline uint16_t wide_store(uint16_t control, Wide value, X87Register *st)
{
    int up, exponent = value.exponent + X87_BIAS;
    uint16_t status = X87_PE;
    uint128 significand = wide_rounded(control, value, 64, &up);
    if (significand >> 64) {
        significand = X87_INTEGER_BIT;
        exponent++;
    }
    if (exponent >= X87_SPECIAL_EXPONENT) {
        status |= X87_OE;
        if (control & X87_OE) {
            up = !(control & X87_RC) || (control & X87_RC) == (value.negative ? X87_RC_DOWN : X87_RC_UP);
            exponent = X87_SPECIAL_EXPONENT - !up;
            significand = up ? X87_INTEGER_BIT : ~(uint64_t)0;
        } else {
            exponent -= X87_WRAP;
        }
    } else if (exponent <= 0) {
        status |= X87_UE;
        if (control & X87_UE) {
            significand = wide_rounded(control, value, 65 - (value.exponent + X87_BIAS), &up);
            exponent = (int)(significand >> 63);
        } else {
            exponent += X87_WRAP;
        }
    }
    x87_store(st, (value.negative ? X87_SIGN : 0) | exponent, (uint64_t)significand);
    return status | (up ? X87_C1 : 0);
}

#endif
