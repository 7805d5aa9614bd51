/* The x87's transcendental instructions (SDM vol. 1, 8.3.5 to 8.3.10): the values of x87_series.h, rounded, and the
 * results for special operands, which are those of Intel's processors.
 *
 * As with the functions of x87_host.h, `control` is the control word to follow. Each returns the exceptions and
 * condition codes of a status word, and does not change its operands if an unmasked exception prevents a result.
 */
#ifndef HVMX_X87_TRANSCENDENTAL_H
#define HVMX_X87_TRANSCENDENTAL_H

#include "x87_series.h"

enum { X87_QUIET_BIT = 62, X87_OUT_OF_RANGE = 63 /* FSIN and the like do not reduce arguments from 2^63 on */ };
enum { X87_TINY = -33 /* up to this exponent, sine and tangent round to the number itself, the cosine to 1 */ };

typedef struct {
    enum { X87_UNSUPPORTED, X87_SIGNALING, X87_QUIET, X87_INFINITY, X87_ZERO, X87_FINITE } kind;
    uint16_t denormal; /* DE, or 0 */
    int sign;
    uint64_t significand;
    Wide value;
} Operand;

static inline Operand x87_operand(const X87Register *st)
{
    Operand result = { X87_FINITE, 0, 0, 0, { 0, 0, 0 } };
    uint16_t high;
    int exponent;
    memcpy(&result.significand, st->bytes, 8);
    memcpy(&high, st->bytes + 8, 2);
    exponent = high & X87_SPECIAL_EXPONENT;
    result.sign = high & X87_SIGN;
    if (exponent && !(result.significand & X87_INTEGER_BIT)) {
        result.kind = X87_UNSUPPORTED;
    } else if (exponent == X87_SPECIAL_EXPONENT) {
        const int quiet = result.significand >> X87_QUIET_BIT & 1;
        result.kind = result.significand == X87_INTEGER_BIT ? X87_INFINITY : quiet ? X87_QUIET : X87_SIGNALING;
    } else if (!result.significand) {
        result.kind = X87_ZERO;
    } else {
        result.denormal = exponent ? 0 : X87_DE;
        exponent = exponent ? exponent : 1;
        result.value = wide(result.sign != 0, exponent - X87_BIAS, (uint128)result.significand << 64);
    }
    return result;
}

static inline int x87_is_number(const Operand *x)
{
    return x->kind >= X87_INFINITY;
}

static inline void x87_store_zero(X87Register *st, int sign)
{
    x87_store(st, sign, 0);
}

static inline void x87_store_infinity(X87Register *st, int sign)
{
    x87_store(st, sign | X87_SPECIAL_EXPONENT, X87_INTEGER_BIT);
}

static inline uint16_t x87_invalid(uint16_t control, X87Register *st)
{
    if (control & X87_IE)
        x87_store(st, X87_SIGN | X87_SPECIAL_EXPONENT, (uint64_t)3 << X87_QUIET_BIT);
    return X87_IE;
}

/* Which of two NaNs is the result (SDM vol. 1, table 4-7): the quiet one, or that with the larger significand. */
static inline int x87_goes_before(const Operand *a, const Operand *b)
{
    if (a->kind != b->kind)
        return a->kind == X87_QUIET;
    if (a->significand != b->significand)
        return a->significand > b->significand;
    return a->sign < b->sign;
}

/* One or both of the operands are NaNs. */
static inline uint16_t x87_not_numbers(uint16_t control, const Operand *x, const Operand *y, X87Register *st)
{
    const uint16_t status = x->kind == X87_SIGNALING || y->kind == X87_SIGNALING ? X87_IE : 0;
    const Operand *chosen = x87_is_number(x) || (!x87_is_number(y) && x87_goes_before(y, x)) ? y : x;
    if (x->kind == X87_UNSUPPORTED || y->kind == X87_UNSUPPORTED)
        return x87_invalid(control, st);
    if (!(status & ~control))
        x87_store(st, chosen->sign | X87_SPECIAL_EXPONENT, chosen->significand | (uint64_t)1 << X87_QUIET_BIT);
    return status;
}

/* 2^ST(0) - 1. For |ST(0)| > 1 the result is undefined (SDM vol. 2, F2XM1): processors leave ST(0) as it is. */
X87_FUNCTION x87_f2xm1(uint16_t control, X87Register *st)
{
    const Operand x = x87_operand(st);
    if (!x87_is_number(&x))
        return x87_not_numbers(control, &x, &x, st);
    if (x.denormal & ~control || x.kind == X87_ZERO)
        return x.denormal;
    if (x.kind == X87_INFINITY) {
        if (x.sign)
            x87_store(st, X87_SIGN | X87_BIAS, X87_INTEGER_BIT);
        return 0;
    }
    if (x.value.exponent < 0)
        return x.denormal | wide_store(control, power_of_2_minus_1(x.value), st);
    if (x.value.exponent == 0 && x.value.significand == ONE_UNITS && x.sign)
        x87_store(st, X87_SIGN | (X87_BIAS - 1), X87_INTEGER_BIT);
    return X87_PE;
}

/* ST(1) * log2(ST(0)). */
X87_FUNCTION x87_fyl2x(uint16_t control, const X87Register *st, X87Register *operand)
{
    const Operand x = x87_operand(st), y = x87_operand(operand);
    const uint16_t denormal = x.denormal | y.denormal;
    const int is_1 = x.kind == X87_FINITE && x.value.exponent == 0 && x.value.significand == ONE_UNITS;
    int sign; /* of the result */
    if (!x87_is_number(&x) || !x87_is_number(&y))
        return x87_not_numbers(control, &x, &y, operand);
    if (x.sign && x.kind != X87_ZERO)
        return x87_invalid(control, operand);
    if (y.kind == X87_ZERO ? x.kind != X87_FINITE : y.kind == X87_INFINITY && is_1)
        return x87_invalid(control, operand);
    sign = x.kind == X87_ZERO || (x.kind == X87_FINITE && x.value.exponent < 0) ? y.sign ^ X87_SIGN : y.sign;
    if (x.kind == X87_ZERO && y.kind == X87_FINITE) {
        if (control & X87_ZE)
            x87_store_infinity(operand, sign);
        return X87_ZE;
    }
    if (denormal & ~control)
        return denormal;
    if (x.kind != X87_FINITE || y.kind == X87_INFINITY)
        x87_store_infinity(operand, sign);
    else if (is_1 || y.kind == X87_ZERO)
        x87_store_zero(operand, sign);
    else
        return denormal | wide_store(control, wide_multiply(y.value, logarithm(x.value)), operand);
    return denormal;
}

/* ST(1) * log2(ST(0) + 1). The result is defined for |ST(0)| < 1 - sqrt(1/2) (SDM vol. 2, FYL2XP1). Processors compute
 * it above -1; from there down, if ST(1) is a zero or an infinity they give it the sign of a negative logarithm, and
 * otherwise the result is ST(0). */
X87_FUNCTION x87_fyl2xp1(uint16_t control, const X87Register *st, X87Register *operand)
{
    const Operand x = x87_operand(st), y = x87_operand(operand);
    const uint16_t denormal = x.denormal | y.denormal;
    const int sign = x.sign ^ y.sign;
    if (!x87_is_number(&x) || !x87_is_number(&y))
        return x87_not_numbers(control, &x, &y, operand);
    if (x.kind == X87_INFINITY ? x.sign || y.kind == X87_ZERO : x.kind == X87_ZERO && y.kind == X87_INFINITY)
        return x87_invalid(control, operand);
    if (denormal & ~control)
        return denormal;
    if (x.kind == X87_INFINITY || y.kind == X87_INFINITY) {
        x87_store_infinity(operand, sign);
    } else if (x.kind == X87_ZERO || y.kind == X87_ZERO) {
        x87_store_zero(operand, sign);
    } else if (x.sign && x.value.exponent >= 0) {
        memcpy(operand->bytes, st->bytes, 10);
        return denormal | X87_PE;
    } else {
        return denormal | wide_store(control, wide_multiply(y.value, logarithm_of_1_plus(x.value)), operand);
    }
    return denormal;
}

/* The angle of the point (ST(0), ST(1)): atan(ST(1) / ST(0)) in the right quadrant. */
X87_FUNCTION x87_fpatan(uint16_t control, const X87Register *st, X87Register *operand)
{
    const Operand x = x87_operand(st), y = x87_operand(operand);
    const uint16_t denormal = x.denormal | y.denormal;
    Wide result;
    if (!x87_is_number(&x) || !x87_is_number(&y))
        return x87_not_numbers(control, &x, &y, operand);
    if (denormal & ~control)
        return denormal;
    if (x.kind == X87_FINITE && y.kind == X87_FINITE) {
        result = arctangent(y.value, x.value);
    } else if (y.kind == X87_ZERO || (x.kind == X87_INFINITY && y.kind != X87_INFINITY)) {
        if (!x.sign) {
            x87_store_zero(operand, y.sign);
            return denormal;
        }
        result = pi;
    } else if (x.kind == X87_INFINITY) {
        result = x.sign ? three_quarters_pi : quarter_pi;
    } else {
        result = half_pi;
    }
    result.negative = y.sign != 0;
    return denormal | wide_store(control, result, operand);
}

/* The operand of FSIN, FCOS, FPTAN and FSINCOS. False: there is nothing to compute; `status` is complete, and ST(0) is
 * the result if there is one. */
static inline int x87_angle(uint16_t control, X87Register *st, Operand *x, uint16_t *status)
{
    *x = x87_operand(st);
    *status = x->denormal;
    if (!x87_is_number(x))
        *status = x87_not_numbers(control, x, x, st);
    else if (x->kind == X87_INFINITY)
        *status = x87_invalid(control, st);
    else if (x->kind == X87_FINITE && x->value.exponent >= X87_OUT_OF_RANGE)
        *status = X87_C2;
    else
        return !(*status & ~control);
    return 0;
}

static inline int x87_is_tiny(const Operand *x)
{
    return x->kind == X87_ZERO || x->value.exponent <= X87_TINY;
}

/* The result for a tiny number is the number, in every rounding mode. */
static inline uint16_t x87_store_tiny(uint16_t control, const Operand *x, X87Register *st)
{
    return x->kind == X87_ZERO ? 0 : wide_store(control & ~X87_RC, x->value, st);
}

static inline uint16_t x87_store_one(const Operand *x, X87Register *st)
{
    x87_store(st, X87_BIAS, X87_INTEGER_BIT);
    return x->kind == X87_ZERO ? 0 : X87_PE;
}

X87_FUNCTION x87_fsin(uint16_t control, X87Register *st)
{
    Operand x;
    uint16_t status;
    if (!x87_angle(control, st, &x, &status))
        return status;
    if (x87_is_tiny(&x))
        return status | x87_store_tiny(control, &x, st);
    return status | wide_store(control, sine(reduced(x.value)), st);
}

X87_FUNCTION x87_fcos(uint16_t control, X87Register *st)
{
    Operand x;
    uint16_t status;
    if (!x87_angle(control, st, &x, &status))
        return status;
    if (x87_is_tiny(&x))
        return status | x87_store_one(&x, st);
    return status | wide_store(control, cosine(reduced(x.value)), st);
}

/* Two results: one replaces ST(0), the other is pushed. If it is a NaN, both are. */
static inline uint16_t x87_push_nan(uint16_t control, uint16_t status, const X87Register *st, X87Register *pushed)
{
    if (!(status & ((~control & X87_BEFORE_RESULT) | X87_C2)))
        memcpy(pushed->bytes, st->bytes, 10);
    return status;
}

/* The sine, and the cosine, which determines C1. */
X87_FUNCTION x87_fsincos(uint16_t control, X87Register *st, X87Register *pushed)
{
    Operand x;
    uint16_t status;
    Angle a;
    if (!x87_angle(control, st, &x, &status))
        return x87_push_nan(control, status, st, pushed);
    if (x87_is_tiny(&x))
        return status | x87_store_tiny(control, &x, st) | x87_store_one(&x, pushed);
    a = reduced(x.value);
    status |= wide_store(control, sine(a), st) & ~X87_C1;
    return status | wide_store(control, cosine(a), pushed);
}

/* The tangent, and 1. */
X87_FUNCTION x87_fptan(uint16_t control, X87Register *st, X87Register *pushed)
{
    Operand x;
    uint16_t status;
    if (!x87_angle(control, st, &x, &status))
        return x87_push_nan(control, status, st, pushed);
    x87_store(pushed, X87_BIAS, X87_INTEGER_BIT);
    if (x87_is_tiny(&x))
        return status | x87_store_tiny(control, &x, st);
    return status | wide_store(control, tangent(reduced(x.value)), st);
}

#endif
