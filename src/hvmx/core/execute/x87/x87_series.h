/* The functions of the x87's transcendental instructions, for numbers with significands of 128 bits, with a relative
 * error of less than 2^-120: power series, after a reduction of the argument.
 *
 * The unit of a fixed-point number is the value of its lowest bit: 2^-128 for arguments of series, 2^-127 for sums.
 */
#ifndef HVMX_X87_SERIES_H
#define HVMX_X87_SERIES_H

#include "x87_wide.h"

#define ONE_UNITS WIDE_HIGHEST_BIT
#define ALMOST_ONE (ONE_UNITS - 1)

/* 1/n! for n from 1 on: 2^127 / n!, truncated. The first two, with which series begin, are one unit less: so if the
 * second term is negative and less than a unit, the sum is below the first term, and its product is rounded
 * accordingly. */
static const uint128 inverse_factorials[] = {
    ALMOST_ONE, ALMOST_ONE / 2, WORDS(0x1555555555555555, 0x5555555555555555),
    WORDS(0x0555555555555555, 0x5555555555555555), WORDS(0x0111111111111111, 0x1111111111111111),
    WORDS(0x002d82d82d82d82d, 0x82d82d82d82d82d8), WORDS(0x0006806806806806, 0x8068068068068068),
    WORDS(0x0000d00d00d00d00, 0xd00d00d00d00d00d), WORDS(0x0000171de3a556c7, 0x338faac1c88e5001),
    WORDS(0x0000024fc9f6ef13, 0xeb8e5de02da7d4cc), WORDS(0x00000035cc8acfea, 0x89c71fce8fc9706f),
    WORDS(0x000000047bb63bfe, 0x3625ed5136a61eb3), WORDS(0x000000005849184e, 0xa1b425f28e0cc748),
    WORDS(0x00000000064e5d2a, 0x301f27482eb7c517), WORDS(0x00000000006b9fcf, 0x9ccee07c476195ac),
    WORDS(0x000000000006b9fc, 0xf9ccee07c476195a), WORDS(0x000000000000654b, 0x1dc0c2b529ac9814),
    WORDS(0x00000000000005a0, 0x9e18ee5f65deec01), WORDS(0x000000000000004b, 0xd26d1a05055c9328),
    WORDS(0x0000000000000003, 0xca8574804044a0f5), WORDS(0x0000000000000000, 0x2e371dedb9eae317),
    WORDS(0x0000000000000000, 0x0219c72db6ff0a52), WORDS(0x0000000000000000, 0x001761b413163819),
    WORDS(0x0000000000000000, 0x0000f96780cb97ab), WORDS(0x0000000000000000, 0x000009f9e66e8b2f),
    WORDS(0x0000000000000000, 0x000000623a17f1a9), WORDS(0x0000000000000000, 0x00000003a356385b),
    WORDS(0x0000000000000000, 0x000000002143144c), WORDS(0x0000000000000000, 0x0000000001259f98),
    WORDS(0x0000000000000000, 0x000000000009c996), WORDS(0x0000000000000000, 0x00000000000050d3),
    WORDS(0x0000000000000000, 0x0000000000000286),
};

/* 1/(2n + 1) */
static const uint128 inverse_odd_numbers[] = {
    ALMOST_ONE, ONE_UNITS / 3, ONE_UNITS / 5, ONE_UNITS / 7, ONE_UNITS / 9, ONE_UNITS / 11, ONE_UNITS / 13,
    ONE_UNITS / 15, ONE_UNITS / 17, ONE_UNITS / 19, ONE_UNITS / 21, ONE_UNITS / 23, ONE_UNITS / 25, ONE_UNITS / 27,
    ONE_UNITS / 29, ONE_UNITS / 31, ONE_UNITS / 33, ONE_UNITS / 35, ONE_UNITS / 37, ONE_UNITS / 39, ONE_UNITS / 41,
    ONE_UNITS / 43, ONE_UNITS / 45, ONE_UNITS / 47, ONE_UNITS / 49,
};

/* atan(n / 8), in units of 2^-128; these and the constants below were computed with mpmath, rounded to nearest. */
static const uint128 arctangents[] = {
    0, WORDS(0x1fd5ba9aac2f6dc6, 0x5912f313e7d111df),
    WORDS(0x3eb6ebf25901bac5, 0x5b71e7bd7de885f9), WORDS(0x5bd86507937bc239, 0xc55190916e7f2242),
    WORDS(0x76b19c1586ed3da2, 0xb7f222f65e1d4682), WORDS(0x8f005d5ef7f59f9b, 0x5c835e1665c43748),
    WORDS(0xa4bc7d1934f70924, 0x19a87f2a457dac9f), WORDS(0xb8053e2bc2319e73, 0xcb2da55210a4443d),
    WORDS(0xc90fdaa22168c234, 0xc4c6628b80dc1cd1),
};

static const uint128 root_of_2 = WORDS(0xb504f333f9de6484, 0x597d89b3754abe9f); /* in units of 2^-127 */
static const Wide one = { ONE_UNITS, 0, 0 }, minus_one = { ONE_UNITS, 0, 1 }, two = { ONE_UNITS, 1, 0 };
static const Wide pi = { WORDS(0xc90fdaa22168c234, 0xc4c6628b80dc1cd1), 1, 0 };
static const Wide half_pi = { WORDS(0xc90fdaa22168c234, 0xc4c6628b80dc1cd1), 0, 0 };
static const Wide quarter_pi = { WORDS(0xc90fdaa22168c234, 0xc4c6628b80dc1cd1), -1, 0 };
static const Wide three_quarters_pi = { WORDS(0x96cbe3f9990e91a7, 0x9394c9e8a0a5159d), 1, 0 };
static const Wide log_of_2 = { WORDS(0xb17217f7d1cf79ab, 0xc9e3b39803f2f6af), -1, 0 };     /* ln 2 */
static const Wide twice_log2_e = { WORDS(0xb8aa3b295c17f0bb, 0xbe87fed0691d3e89), 1, 0 };

/* The magnitude of a number, which is less than 1, in units of 2^-128. */
static inline uint128 fixed_point(Wide value)
{
    const int shift = -1 - value.exponent;
    return shift < 128 ? value.significand >> shift : 0;
}

static inline uint128 fixed_point_square(Wide value)
{
    const uint128 size = fixed_point(value);
    return multiply_high(size, size);
}

/* c(0) + c(1) z + c(2) z^2 + ..., or with alternating signs; c(n) is `coefficients[n * stride]`. */
static inline Wide series(const uint128 *coefficients, int stride, int count, uint128 z, int alternating)
{
    const uint128 flip = alternating ? ~(uint128)0 : 0;
    uint128 sum = coefficients[--count * stride];
    while (count--)
        sum = coefficients[count * stride] + ((multiply_high(sum, z) ^ flip) - flip);
    return wide(0, 0, sum);
}

/* 2^x - 1 for |x| < 1: with t = x ln 2, t (1 + t/2! + t^2/3! + ...) */
static inline Wide power_of_2_minus_1(Wide x)
{
    const Wide t = wide_multiply(x, log_of_2);
    return wide_multiply(t, series(inverse_factorials, 1, 31, fixed_point(t), t.negative));
}

/* log2((1 + s) / (1 - s)) for the quotient s of a and b, |s| < 0.172: 2 log2(e) s (1 + s^2/3 + s^4/5 + ...) */
static inline Wide logarithm_by_quotient(Wide a, Wide b)
{
    const Wide s = wide_divide(a, b);
    return wide_multiply(wide_multiply(s, twice_log2_e),
                         series(inverse_odd_numbers, 1, 25, fixed_point_square(s), 0));
}

/* log2(x), x > 0: x is 2^k m with m from sqrt(1/2) to sqrt(2), and s = (m - 1) / (m + 1). */
static inline Wide logarithm(Wide x)
{
    const int upper = x.significand > root_of_2;
    const Wide m = { x.significand, -upper, 0 }, k = wide_integer(x.exponent + upper), rest = wide_add(m, minus_one);
    return rest.significand ? wide_add(k, logarithm_by_quotient(rest, wide_add(m, one))) : k;
}

/* log2(1 + x), x > -1: for small x, s is x / (2 + x), without cancellation. */
static inline Wide logarithm_of_1_plus(Wide x)
{
    return x.exponent < -2 ? logarithm_by_quotient(x, wide_add(two, x)) : logarithm(wide_add(one, x));
}

/* atan(t), |t| <= 1/16: t (1 - t^2/3 + t^4/5 - ...). If t^2 is less than the last bit of t, it is just below t. */
static inline Wide arctangent_by_series(Wide t)
{
    if (!t.significand)
        return t;
    if (t.exponent < -63)
        return t.significand & 1 ? t : wide(t.negative, t.exponent, t.significand - 1);
    return wide_multiply(t, series(inverse_odd_numbers, 1, 16, fixed_point_square(t), 1));
}

/* The angle of the point (x, y), neither of them zero, both with 64 bits of significand.
 *
 * With q the quotient of the smaller and the larger, between 0 and 1, and n the integer nearest to 8q, atan(q) is
 * atan(n/8) + atan(t), where t = (8q - n) / (8 + nq) is at most 1/16. */
static inline Wide arctangent(Wide y, Wide x)
{
    const int left = x.negative, below = y.negative;
    int steep, distance, n = 0;
    Wide smaller, larger, angle;
    x.negative = y.negative = 0;
    steep = y.exponent > x.exponent || (y.exponent == x.exponent && y.significand > x.significand);
    smaller = steep ? x : y;
    larger = steep ? y : x;
    distance = larger.exponent - smaller.exponent;
    if (distance < 5) { /* exact numerator and denominator */
        const uint128 a = smaller.significand >> 64, b = larger.significand >> 64 << distance;
        n = (int)((16 * a + b) / (2 * b));
        smaller = wide(8 * a < n * b, 127, 8 * a < n * b ? n * b - 8 * a : 8 * a - n * b);
        larger = wide(0, 127, 8 * b + n * a);
    }
    angle = arctangent_by_series(wide_divide(smaller, larger));
    if (n)
        angle = wide_add(wide(0, -1, arctangents[n]), angle);
    if (steep) {
        angle.negative = !left;
        angle = wide_add(half_pi, angle);
    } else if (left) {
        angle.negative = 1;
        angle = wide_add(pi, angle);
    }
    angle.negative = below;
    return angle;
}

/* An angle, as a number of quarter turns and a remainder of at most an eighth of a turn. */
typedef struct {
    Wide rest;
    uint32_t quarters;
} Angle;

/* A quarter turn is the x87's pi/2: pi with 66 bits of significand (SDM vol. 1, 8.3.8). With this number the remainder
 * is exact for |x| < 2^63, and instructions do not accept larger numbers. It is not zero, because the quarter turn has
 * more bits than x, the last of them set. If |x| is more than an eighth of a turn, results are within 1 ulp of the
 * functions with this period, not of the true ones (8.3.10). */
static inline Angle reduced(Wide x)
{
    const uint128 quarter = WORDS(3, 0x243f6a8885a308d3); /* in units of 2^-65 */
    Angle result = { x, 0 };
    uint128 units, rest;
    if (x.exponent < -1)
        return result;
    units = x.significand >> (62 - x.exponent);
    rest = units % quarter;
    result.quarters = (uint32_t)(units / quarter) & 3;
    if (rest > quarter / 2) {
        result.rest = wide(1, 62, quarter - rest);
        result.quarters++;
    } else {
        result.rest = wide(0, 62, rest);
    }
    if (x.negative) {
        result.rest.negative ^= 1;
        result.quarters = -result.quarters;
    }
    return result;
}

/* r (1 - r^2/3! + r^4/5! - ...) */
static inline Wide sine_of_rest(Wide r)
{
    return wide_multiply(r, series(inverse_factorials, 2, 16, fixed_point_square(r), 1));
}

/* 1 - r^2 (1/2! - r^2/4! + r^4/6! - ...) */
static inline Wide cosine_of_rest(Wide r)
{
    Wide to_one = wide_multiply(wide_multiply(r, r), series(inverse_factorials + 1, 2, 16, fixed_point_square(r), 1));
    to_one.negative = 1;
    return wide_add(one, to_one);
}

static inline Wide sine(Angle a)
{
    Wide result = a.quarters & 1 ? cosine_of_rest(a.rest) : sine_of_rest(a.rest);
    result.negative ^= a.quarters >> 1 & 1;
    return result;
}

static inline Wide cosine(Angle a)
{
    a.quarters++;
    return sine(a);
}

static inline Wide tangent(Angle a)
{
    /* The tangent of such a small remainder is just above it: the division by a cosine just below 1 sees to that. */
    const Wide s = a.rest.exponent < -60 ? a.rest : sine_of_rest(a.rest), c = cosine_of_rest(a.rest);
    Wide result = a.quarters & 1 ? wide_divide(c, s) : wide_divide(s, c);
    result.negative ^= a.quarters & 1;
    return result;
}

#endif
