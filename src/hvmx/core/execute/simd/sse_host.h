/* SSE arithmetic by the host's own unit, so that NaNs, denormals, rounding and flags are those of a processor.
 *
 * Functions that take `control` load it into MXCSR, but with all exceptions masked, and return the exception flags
 * that the operation raises; where `control` has overflow or underflow unmasked, these are as if unmasked (see
 * sse_range.h). The host's MXCSR is restored. With a `control` of 0 they run under MXCSR as it is, return 0 and leave
 * the flags there. Register operands are the guest's, in Cpu. Operands in the guest's memory need not be aligned, and
 * of these no more is read than the instruction reads.
 */
#ifndef HVMX_SSE_HOST_H
#define HVMX_SSE_HOST_H

#include <stdint.h>
#include <string.h>

#include "sse_range.h"
#include "state.h"

#if !defined(__x86_64__)
#error "hvmx leaves SSE arithmetic to the host's own SSE unit: it can only be built for x86-64"
#endif

typedef struct { uint64_t q[2]; } Xmm;
typedef struct { uint32_t d[4]; } XmmDwords;
typedef struct { uint16_t w[8]; } XmmWords;

/* Out of line: a handler with locals whose addresses are taken could not end with a jump. */
#define SSE_FUNCTION static __attribute__((noinline, unused)) uint32_t
#define SSE_RUN(operation, outputs, inputs, ...)                                                                      \
    uint32_t saved, status = 0, masked = control | MXCSR_MASKS;                                                       \
    if (LIKELY(!control))                                                                                             \
        __asm__ volatile(operation : outputs : inputs : "xmm0", "xmm1", ##__VA_ARGS__);                               \
    else                                                                                                              \
        __asm__ volatile("stmxcsr %[saved]\n\tldmxcsr %[masked]\n\t" operation                                        \
                         "\n\tstmxcsr %[status]\n\tldmxcsr %[saved]"                                                  \
                         : [saved] "=m"(saved), [status] "=m"(status), outputs                                        \
                         : [masked] "m"(masked), inputs : "xmm0", "xmm1", ##__VA_ARGS__)
#define SSE_BOTH(first, second) first, second

/* The flags raised by an operation that cannot overflow or underflow, and by one that can. */
#define SSE_RAISED (status & MXCSR_FLAGS)
#define SSE_RAISED_IN(...)                                                                                            \
    (!control || (control & (MXCSR_OM | MXCSR_UM)) == (MXCSR_OM | MXCSR_UM)                                           \
         ? SSE_RAISED : sse_range(control, status, destination, source, &(const SseRange){ __VA_ARGS__ }))

/* Packed: the result is computed from destination and source. */
#define SSE_PACKED_BY(name, instruction, raised)                                                                      \
    SSE_FUNCTION sse_##name(uint32_t control, void *result, const void *destination, const void *source)              \
    {                                                                                                                 \
        SSE_RUN("movups %[d], %%xmm0\n\tmovups %[s], %%xmm1\n\t" instruction " %%xmm1, %%xmm0\n\tmovups %%xmm0, %[r]", \
                [r] "=m"(*(Xmm *)result),                                                                             \
                SSE_BOTH([d] "m"(*(const Xmm *)destination), [s] "m"(*(const Xmm *)source)));                         \
        return raised;                                                                                                \
    }

/* Scalar, or with half a register as the source, which is a memory operand of the host's instruction. */
#define SSE_NARROW_BY(name, instruction, type, raised)                                                                \
    SSE_FUNCTION sse_##name(uint32_t control, void *result, const void *destination, const void *source)              \
    {                                                                                                                 \
        SSE_RUN("movups %[d], %%xmm0\n\t" instruction " %[s], %%xmm0\n\tmovups %%xmm0, %[r]",                         \
                [r] "=m"(*(Xmm *)result),                                                                             \
                SSE_BOTH([d] "m"(*(const Xmm *)destination), [s] "m"(*(const type *)source)));                        \
        return raised;                                                                                                \
    }

#define SSE_PACKED(name) SSE_PACKED_BY(name, #name, SSE_RAISED)
#define SSE_SINGLE(name) SSE_NARROW_BY(name, #name, uint32_t, SSE_RAISED)
#define SSE_DOUBLE(name) SSE_NARROW_BY(name, #name, uint64_t, SSE_RAISED)

#define SSE_ARITHMETIC(name) SSE_PACKED(name##ps) SSE_PACKED(name##pd) SSE_SINGLE(name##ss) SSE_DOUBLE(name##sd)
SSE_ARITHMETIC(sqrt)
SSE_ARITHMETIC(min)
SSE_ARITHMETIC(max)

#define SSE_RANGED_ARITHMETIC(name)                                                                                   \
    SSE_PACKED_BY(name##ps, #name "ps", SSE_RAISED_IN(SSE_VERTICAL, 4, 32, 32, x87_f##name##32, x87_f##name##32))     \
    SSE_PACKED_BY(name##pd, #name "pd", SSE_RAISED_IN(SSE_VERTICAL, 2, 64, 64, x87_f##name##64, x87_f##name##64))     \
    SSE_NARROW_BY(name##ss, #name "ss", uint32_t, SSE_RAISED_IN(SSE_VERTICAL, 1, 32, 32, x87_f##name##32))            \
    SSE_NARROW_BY(name##sd, #name "sd", uint64_t, SSE_RAISED_IN(SSE_VERTICAL, 1, 64, 64, x87_f##name##64))
SSE_RANGED_ARITHMETIC(add)
SSE_RANGED_ARITHMETIC(mul)
SSE_RANGED_ARITHMETIC(sub)
SSE_RANGED_ARITHMETIC(div)

#define SSE_SUMS(name, pairing, even, odd)                                                                            \
    SSE_PACKED_BY(name##ps, #name "ps", SSE_RAISED_IN(pairing, 4, 32, 32, even##32, odd##32))                         \
    SSE_PACKED_BY(name##pd, #name "pd", SSE_RAISED_IN(pairing, 2, 64, 64, even##64, odd##64))
SSE_SUMS(hadd, SSE_HORIZONTAL, x87_fadd, x87_fadd)
SSE_SUMS(hsub, SSE_HORIZONTAL, x87_fsub, x87_fsub)
SSE_SUMS(addsub, SSE_VERTICAL, x87_fsub, x87_fadd)

/* The basic operations under MXCSR as it is, in place. Scalar ones leave the rest of the destination alone. */
#define SSE_LENT(name, move, type)                                                                                    \
    static inline void sse_lent_##name(void *destination, const void *source)                                         \
    {                                                                                                                 \
        __asm__ volatile(move " %[d], %%xmm0\n\t" move " %[s], %%xmm1\n\t" #name " %%xmm1, %%xmm0\n\t"                 \
                         move " %%xmm0, %[d]"                                                                         \
                         : [d] "+m"(*(type *)destination) : [s] "m"(*(const type *)source) : "xmm0", "xmm1");         \
    }
#define SSE_LENT_BASIC(name)                                                                                          \
    SSE_LENT(name##ps, "movups", Xmm)                                                                                 \
    SSE_LENT(name##pd, "movups", Xmm)                                                                                 \
    SSE_LENT(name##ss, "movss", uint32_t)                                                                             \
    SSE_LENT(name##sd, "movsd", uint64_t)
SSE_LENT_BASIC(add)
SSE_LENT_BASIC(sub)
SSE_LENT_BASIC(mul)
SSE_LENT_BASIC(div)

/* A part of a register from memory, the rest zero: stored in one piece, so that a load of any part can be forwarded. */
#define SSE_EXTEND(bits, move)                                                                                        \
    static inline void sse_extend##bits(void *destination, const void *source)                                        \
    {                                                                                                                 \
        __asm__(move " %[s], %%xmm0\n\tmovups %%xmm0, %[d]"                                                           \
                : [d] "=m"(*(Xmm *)destination) : [s] "m"(*(const uint##bits##_t *)source) : "xmm0");                 \
    }
SSE_EXTEND(32, "movss")
SSE_EXTEND(64, "movsd")

/* One for each predicate, 0 to 7. */
#define SSE_COMPARISON(number, predicate)                                                                             \
    SSE_PACKED_BY(cmpps##number, "cmp" predicate "ps", SSE_RAISED)                                                                \
    SSE_PACKED_BY(cmppd##number, "cmp" predicate "pd", SSE_RAISED)                                                                \
    SSE_NARROW_BY(cmpss##number, "cmp" predicate "ss", uint32_t, SSE_RAISED)                                                      \
    SSE_NARROW_BY(cmpsd##number, "cmp" predicate "sd", uint64_t, SSE_RAISED)
SSE_COMPARISON(0, "eq")
SSE_COMPARISON(1, "lt")
SSE_COMPARISON(2, "le")
SSE_COMPARISON(3, "unord")
SSE_COMPARISON(4, "neq")
SSE_COMPARISON(5, "nlt")
SSE_COMPARISON(6, "nle")
SSE_COMPARISON(7, "ord")

/* ZF, PF and CF at their places in EFLAGS are left in `result`. */
#define SSE_FLAGS(name, type)                                                                                         \
    SSE_FUNCTION sse_##name(uint32_t control, void *result, const void *destination, const void *source)              \
    {                                                                                                                 \
        uint8_t zero, parity, carry;                                                                                  \
        SSE_RUN("movups %[d], %%xmm0\n\t" #name " %[s], %%xmm0\n\tsetz %[z]\n\tsetp %[p]\n\tsetc %[c]",               \
                SSE_BOTH([z] "=&q"(zero), SSE_BOTH([p] "=&q"(parity), [c] "=&q"(carry))),                             \
                SSE_BOTH([d] "m"(*(const Xmm *)destination), [s] "m"(*(const type *)source)), "cc");                  \
        *(uint64_t *)result = zero << 6 | parity << 2 | carry;                                                        \
        return SSE_RAISED;                                                                                            \
    }
SSE_FLAGS(ucomiss, uint32_t)
SSE_FLAGS(comiss, uint32_t)
SSE_FLAGS(ucomisd, uint64_t)
SSE_FLAGS(comisd, uint64_t)

SSE_DOUBLE(cvtps2pd)
SSE_PACKED_BY(cvtpd2ps, "cvtpd2ps", SSE_RAISED_IN(SSE_CONVERTED, 2, 64, 32, x87_fmul64, x87_fmul64))
SSE_SINGLE(cvtss2sd)
SSE_NARROW_BY(cvtsd2ss, "cvtsd2ss", uint64_t, SSE_RAISED_IN(SSE_CONVERTED, 1, 64, 32, x87_fmul64))
SSE_PACKED(cvtdq2ps)
SSE_PACKED(cvtps2dq)
SSE_PACKED(cvttps2dq)
SSE_PACKED(cvttpd2dq)
SSE_DOUBLE(cvtdq2pd)
SSE_PACKED(cvtpd2dq)
SSE_NARROW_BY(cvtsi2ss32, "cvtsi2ssl", uint32_t, SSE_RAISED)
SSE_NARROW_BY(cvtsi2ss64, "cvtsi2ssq", uint64_t, SSE_RAISED)
SSE_NARROW_BY(cvtsi2sd32, "cvtsi2sdl", uint32_t, SSE_RAISED)
SSE_NARROW_BY(cvtsi2sd64, "cvtsi2sdq", uint64_t, SSE_RAISED)

/* To an integer, left in `result`, of 32 bits zero-extended. */
#define SSE_TO_INTEGER(name, bits, type)                                                                              \
    SSE_FUNCTION sse_##name##bits(uint32_t control, void *result, const void *destination, const void *source)        \
    {                                                                                                                 \
        uint##bits##_t value;                                                                                         \
        SSE_RUN(#name " %[s], %[v]", [v] "=&r"(value), [s] "m"(*(const type *)source));                               \
        *(uint64_t *)result = value;                                                                                  \
        return SSE_RAISED;                                                                                            \
    }
SSE_TO_INTEGER(cvtss2si, 32, uint32_t)
SSE_TO_INTEGER(cvtss2si, 64, uint32_t)
SSE_TO_INTEGER(cvtsd2si, 32, uint64_t)
SSE_TO_INTEGER(cvtsd2si, 64, uint64_t)
SSE_TO_INTEGER(cvttss2si, 32, uint32_t)
SSE_TO_INTEGER(cvttss2si, 64, uint32_t)
SSE_TO_INTEGER(cvttsd2si, 32, uint64_t)
SSE_TO_INTEGER(cvttsd2si, 64, uint64_t)

/* Operations that do not depend on MXCSR, in place. */
#define SSE_PLAIN(name)                                                                                               \
    static inline void sse_##name(void *destination, const void *source)                                              \
    {                                                                                                                 \
        __asm__("movups %[d], %%xmm0\n\tmovups %[s], %%xmm1\n\t" #name " %%xmm1, %%xmm0\n\tmovups %%xmm0, %[d]"       \
                : [d] "+m"(*(Xmm *)destination) : [s] "m"(*(const Xmm *)source) : "xmm0", "xmm1");                    \
    }
/* Those that MMX has, too (mmx_host.h): lane by lane, and across lanes. */
#define SIMD_LANES(each)                                                                                              \
    each(pcmpgtb) each(pcmpgtw) each(pcmpgtd) each(pcmpeqb) each(pcmpeqw) each(pcmpeqd)                               \
    each(psrlw) each(psrld) each(psrlq) each(psllw) each(pslld) each(psllq) each(psraw) each(psrad)                   \
    each(paddb) each(paddw) each(paddd) each(paddq) each(psubb) each(psubw) each(psubd) each(psubq)                   \
    each(psubusb) each(psubusw) each(psubsb) each(psubsw) each(paddusb) each(paddusw) each(paddsb) each(paddsw)       \
    each(pminub) each(pmaxub) each(pminsw) each(pmaxsw) each(pavgb) each(pavgw)                                       \
    each(pand) each(pandn) each(por) each(pxor)                                                                       \
    each(pmullw) each(pmulhw) each(pmulhuw) each(pmuludq) each(pmaddwd) each(psadbw)
#define SIMD_PACKS(each) each(packsswb) each(packuswb) each(packssdw)
SSE_PLAIN(andps) SSE_PLAIN(andpd) SSE_PLAIN(andnps) SSE_PLAIN(andnpd)
SSE_PLAIN(orps) SSE_PLAIN(orpd) SSE_PLAIN(xorps) SSE_PLAIN(xorpd)
SSE_PLAIN(unpcklps) SSE_PLAIN(unpckhps) SSE_PLAIN(unpcklpd) SSE_PLAIN(unpckhpd)
SSE_PLAIN(movsldup) SSE_PLAIN(movshdup)
SSE_PLAIN(punpcklbw) SSE_PLAIN(punpcklwd) SSE_PLAIN(punpckldq) SSE_PLAIN(punpcklqdq)
SSE_PLAIN(punpckhbw) SSE_PLAIN(punpckhwd) SSE_PLAIN(punpckhdq) SSE_PLAIN(punpckhqdq)
SIMD_PACKS(SSE_PLAIN)
SIMD_LANES(SSE_PLAIN)

#define SSE_MASK(name)                                                                                                \
    static inline uint32_t sse_##name(const void *source)                                                             \
    {                                                                                                                 \
        uint32_t mask;                                                                                                \
        __asm__("movups %[s], %%xmm0\n\t" #name " %%xmm0, %[m]"                                                       \
                : [m] "=r"(mask) : [s] "m"(*(const Xmm *)source) : "xmm0");                                           \
        return mask;                                                                                                  \
    }
SSE_MASK(movmskps)
SSE_MASK(movmskpd)
SSE_MASK(pmovmskb)

/* Shuffles by an immediate; source and destination may be the same. Out of line, because of their locals. */
#define SSE_SHUFFLE(name) static __attribute__((noinline, unused)) void sse_##name(void *destination, const void *source, uint32_t order)
SSE_SHUFFLE(pshufd)
{
    XmmDwords from, to;
    memcpy(&from, source, 16);
    for (int i = 0; i < 4; i++)
        to.d[i] = from.d[order >> 2 * i & 3];
    memcpy(destination, &to, 16);
}

SSE_SHUFFLE(pshuflw)
{
    XmmWords from, to;
    memcpy(&from, source, 16);
    to = from;
    for (int i = 0; i < 4; i++)
        to.w[i] = from.w[order >> 2 * i & 3];
    memcpy(destination, &to, 16);
}

SSE_SHUFFLE(pshufhw)
{
    XmmWords from, to;
    memcpy(&from, source, 16);
    to = from;
    for (int i = 0; i < 4; i++)
        to.w[4 + i] = from.w[4 + (order >> 2 * i & 3)];
    memcpy(destination, &to, 16);
}

SSE_SHUFFLE(shufps)
{
    XmmDwords low, high, to;
    memcpy(&low, destination, 16);
    memcpy(&high, source, 16);
    for (int i = 0; i < 4; i++)
        to.d[i] = (i < 2 ? low : high).d[order >> 2 * i & 3];
    memcpy(destination, &to, 16);
}

SSE_SHUFFLE(shufpd)
{
    Xmm low, high, to;
    memcpy(&low, destination, 16);
    memcpy(&high, source, 16);
    to.q[0] = low.q[order & 1];
    to.q[1] = high.q[order >> 1 & 1];
    memcpy(destination, &to, 16);
}

/* Shifts of the whole register, by bytes. */
SSE_SHUFFLE(psrldq)
{
    uint8_t wide[32] = { 0 };
    memcpy(wide, source, 16);
    memcpy(destination, wide + (order < 16 ? order : 16), 16);
}

SSE_SHUFFLE(pslldq)
{
    uint8_t wide[32] = { 0 };
    memcpy(wide + 16, source, 16);
    memcpy(destination, wide + 16 - (order < 16 ? order : 16), 16);
}

#endif
