/* Integer instructions of SSSE3, SSE4.1 and SSE4.2, lane by lane in C, so that the host need not have them.
 *
 * The destination is a register of the guest. The source is a register, maybe the same, or memory, of which no more is
 * read than the instruction reads. All are out of line: a handler with locals whose addresses are taken could not end
 * with a jump.
 */
#ifndef HVMX_SSE_LANES_H
#define HVMX_SSE_LANES_H

#include <emmintrin.h>
#include <stdint.h>
#include <string.h>

/* Vectors, which the compiler computes with SSE2; a comparison gives all ones in the lanes where it is true. */
typedef union {
    uint8_t ub __attribute__((vector_size(16)));
    int8_t sb __attribute__((vector_size(16)));
    uint16_t uw __attribute__((vector_size(16)));
    int16_t sw __attribute__((vector_size(16)));
    uint32_t ud __attribute__((vector_size(16)));
    int32_t sd __attribute__((vector_size(16)));
    uint64_t uq __attribute__((vector_size(16)));
    int64_t sq __attribute__((vector_size(16)));
} Lanes;

#define LANES_OF(lane, bytes) ((int)((bytes) / sizeof(((Lanes *)0)->lane[0])))
#define LANES_WHERE(lane, condition, yes, no)                                                                         \
    (((yes) & (__typeof__(a.lane))(condition)) | ((no) & ~(__typeof__(a.lane))(condition)))

/* Writes a function of the destination `a` and the source `b` to `to`; each has `bytes` bytes. */
#define LANES_BODY(name)                                                                                              \
    static inline __attribute__((always_inline)) Lanes lanes_##name(const Lanes a, const Lanes b, const int bytes)
#define LANES_XMM(name)                                                                                               \
    static __attribute__((noinline, unused)) void sse_##name(void *destination, const void *source)                   \
    {                                                                                                                 \
        Lanes a, b;                                                                                                   \
        memcpy(&a, destination, 16);                                                                                  \
        memcpy(&b, source, 16);                                                                                       \
        a = lanes_##name(a, b, 16);                                                                                   \
        memcpy(destination, &a, 16);                                                                                  \
    }

/* All lanes at once. */
#define LANES_ALL(name, lane, result)                                                                                 \
    LANES_BODY(name)                                                                                                  \
    {                                                                                                                 \
        return (Lanes){ .lane = (result) };                                                                           \
    }                                                                                                                 \
    LANES_XMM(name)

/* Each lane from the same lanes of the operands. */
#define LANES_EACH(name, lane, result)                                                                                \
    LANES_BODY(name)                                                                                                  \
    {                                                                                                                 \
        Lanes to = a;                                                                                                 \
        for (int i = 0; i < LANES_OF(lane, bytes); i++)                                                               \
            to.lane[i] = (result);                                                                                    \
        return to;                                                                                                    \
    }                                                                                                                 \
    LANES_XMM(name)

/* The lower half from the pairs of lanes of the destination, the upper half from those of the source. */
#define LANES_PAIRS(name, lane, result)                                                                               \
    LANES_BODY(name)                                                                                                  \
    {                                                                                                                 \
        Lanes to = a;                                                                                                 \
        for (int i = 0, half = LANES_OF(lane, bytes) / 2; i < half; i++) {                                            \
            __typeof__(to.lane[0]) x = a.lane[2 * i], y = a.lane[2 * i + 1];                                          \
            to.lane[i] = (result);                                                                                    \
            x = b.lane[2 * i], y = b.lane[2 * i + 1];                                                                 \
            to.lane[half + i] = (result);                                                                             \
        }                                                                                                             \
        return to;                                                                                                    \
    }                                                                                                                 \
    LANES_XMM(name)

#define LANES_SATURATED(value) ((value) > 32767 ? 32767 : (value) < -32768 ? -32768 : (value))
#define LANES_SIGNED(lane) (LANES_WHERE(lane, b.lane < 0, -a.lane, a.lane) & (b.lane != 0))
#define LANES_ABSOLUTE(lane) LANES_WHERE(lane, b.lane < 0, -b.lane, b.lane)
#define LANES_LESSER(lane) LANES_WHERE(lane, a.lane < b.lane, a.lane, b.lane)
#define LANES_GREATER(lane) LANES_WHERE(lane, a.lane > b.lane, a.lane, b.lane)

/* SSSE3 */

/* Eight bytes of a shuffle, assembled in a general register: stored singly they do not forward to a wide load. */
static inline __attribute__((always_inline)) uint64_t lanes_shuffled(const uint8_t *from, uint64_t order, int bytes)
{
    uint64_t to = 0;
#pragma GCC unroll 8
    for (int i = 0; i < 64; i += 8)
        to |= (uint64_t)(order >> i & 0x80 ? 0 : from[order >> i & (bytes - 1)]) << i;
    return to;
}

LANES_BODY(pshufb)
{
    return (Lanes){ .uq = { lanes_shuffled((const uint8_t *)&a, b.uq[0], bytes),
                            lanes_shuffled((const uint8_t *)&a, b.uq[1], bytes) } };
}
LANES_XMM(pshufb)

LANES_PAIRS(phaddw, uw, x + y)
LANES_PAIRS(phaddd, ud, x + y)
LANES_PAIRS(phaddsw, sw, LANES_SATURATED(x + y))
LANES_PAIRS(phsubw, uw, x - y)
LANES_PAIRS(phsubd, ud, x - y)
LANES_PAIRS(phsubsw, sw, LANES_SATURATED(x - y))
/* Unsigned bytes of the destination times signed ones of the source: a product fits into a word, a sum may not. */
LANES_ALL(pmaddubsw, sw, (__typeof__(a.sw))_mm_adds_epi16((__m128i)((a.sw & 0xff) * (b.sw << 8 >> 8)),
                                                          (__m128i)((__typeof__(a.sw))(a.uw >> 8) * (b.sw >> 8))))
LANES_ALL(psignb, sb, LANES_SIGNED(sb))
LANES_ALL(psignw, sw, LANES_SIGNED(sw))
LANES_ALL(psignd, sd, LANES_SIGNED(sd))
LANES_ALL(pabsb, sb, LANES_ABSOLUTE(sb))
LANES_ALL(pabsw, sw, LANES_ABSOLUTE(sw))
LANES_ALL(pabsd, sd, LANES_ABSOLUTE(sd))
LANES_EACH(pmulhrsw, sw, ((a.sw[i] * b.sw[i] >> 14) + 1) >> 1)

/* The same on MMX registers. */
#define LANES_MMX(name)                                                                                               \
    static __attribute__((noinline, unused)) void mmx_##name(void *destination, const void *source)                   \
    {                                                                                                                 \
        Lanes a = { { 0 } }, b = { { 0 } };                                                                           \
        memcpy(&a, destination, 8);                                                                                   \
        memcpy(&b, source, 8);                                                                                        \
        a = lanes_##name(a, b, 8);                                                                                    \
        memcpy(destination, &a, 8);                                                                                   \
    }
LANES_MMX(pshufb) LANES_MMX(pmaddubsw) LANES_MMX(pmulhrsw)
LANES_MMX(phaddw) LANES_MMX(phaddd) LANES_MMX(phaddsw) LANES_MMX(phsubw) LANES_MMX(phsubd) LANES_MMX(phsubsw)
LANES_MMX(psignb) LANES_MMX(psignw) LANES_MMX(psignd) LANES_MMX(pabsb) LANES_MMX(pabsw) LANES_MMX(pabsd)

/* SSE4.1 and SSE4.2 */
LANES_ALL(pminsb, sb, LANES_LESSER(sb))
LANES_ALL(pminsd, sd, LANES_LESSER(sd))
LANES_ALL(pminuw, uw, LANES_LESSER(uw))
LANES_ALL(pminud, ud, LANES_LESSER(ud))
LANES_ALL(pmaxsb, sb, LANES_GREATER(sb))
LANES_ALL(pmaxsd, sd, LANES_GREATER(sd))
LANES_ALL(pmaxuw, uw, LANES_GREATER(uw))
LANES_ALL(pmaxud, ud, LANES_GREATER(ud))
LANES_ALL(pmulld, ud, a.ud * b.ud)
LANES_EACH(pmuldq, sq, (int64_t)a.sd[2 * i] * b.sd[2 * i])
LANES_ALL(pcmpeqq, sq, a.sq == b.sq)
LANES_ALL(pcmpgtq, sq, a.sq > b.sq)

static inline int32_t lanes_unsigned_word(int32_t value)
{
    return value < 0 ? 0 : value > 0xffff ? 0xffff : value;
}

LANES_EACH(packusdw, uw, lanes_unsigned_word(i < 4 ? a.sd[i] : b.sd[i - 4]))

/* The smallest word, and its index. */
LANES_BODY(phminposuw)
{
    Lanes to = { { 0 } };
    for (int i = 1; i < LANES_OF(uw, bytes); i++)
        if (b.uw[i] < b.uw[to.uw[1]])
            to.uw[1] = i;
    to.uw[0] = b.uw[to.uw[1]];
    return to;
}
LANES_XMM(phminposuw)

/* The lowest lanes of the source, extended from `from` to `lane`: types of different width, both signed or both not. */
#define LANES_EXTENDED(name, from, lane)                                                                              \
    static __attribute__((noinline, unused)) void sse_##name(void *destination, const void *source)                   \
    {                                                                                                                 \
        Lanes b, to;                                                                                                  \
        memcpy(&b, source, LANES_OF(lane, 16) * sizeof b.from[0]);                                                    \
        for (int i = 0; i < LANES_OF(lane, 16); i++)                                                                  \
            to.lane[i] = b.from[i];                                                                                   \
        memcpy(destination, &to, 16);                                                                                 \
    }
LANES_EXTENDED(pmovsxbw, sb, sw)
LANES_EXTENDED(pmovsxbd, sb, sd)
LANES_EXTENDED(pmovsxbq, sb, sq)
LANES_EXTENDED(pmovsxwd, sw, sd)
LANES_EXTENDED(pmovsxwq, sw, sq)
LANES_EXTENDED(pmovsxdq, sd, sq)
LANES_EXTENDED(pmovzxbw, ub, uw)
LANES_EXTENDED(pmovzxbd, ub, ud)
LANES_EXTENDED(pmovzxbq, ub, uq)
LANES_EXTENDED(pmovzxwd, uw, ud)
LANES_EXTENDED(pmovzxwq, uw, uq)
LANES_EXTENDED(pmovzxdq, ud, uq)

/* With an immediate. */
#define LANES_ORDERED(name)                                                                                           \
    static __attribute__((noinline, unused)) void sse_##name(void *destination, const void *source, uint32_t order)

#define LANES_BLENDED(name, lane, ...)                                                                                \
    LANES_ORDERED(name)                                                                                               \
    {                                                                                                                 \
        Lanes a, b;                                                                                                   \
        const __typeof__(a.lane) bits = { __VA_ARGS__ };                                                              \
        memcpy(&a, destination, 16);                                                                                  \
        memcpy(&b, source, 16);                                                                                       \
        a.lane = LANES_WHERE(lane, (bits & (__typeof__(a.lane[0]))order) != 0, b.lane, a.lane);                       \
        memcpy(destination, &a, 16);                                                                                  \
    }
LANES_BLENDED(blendps, ud, 1, 2, 4, 8)
LANES_BLENDED(blendpd, uq, 1, 2)
LANES_BLENDED(pblendw, uw, 1, 2, 4, 8, 16, 32, 64, 128)

/* Bytes from `order` on of the source, followed by the destination, followed by zeros. */
static inline uint64_t mmx_palignr(uint64_t high, uint64_t low, uint32_t order)
{
    if (order >= 8)
        return order < 16 ? high >> 8 * (order - 8) : 0;
    return order ? high << 8 * (8 - order) | low >> 8 * order : low;
}

LANES_ORDERED(palignr)
{
    uint64_t from[7] = { 0 };
    memcpy(from, source, 16);
    memcpy(from + 2, destination, 16);
    const uint64_t *low = from + (order < 32 ? order / 8 : 4);
    Lanes to = { .uq = { mmx_palignr(low[1], low[0], order & 7), mmx_palignr(low[2], low[1], order & 7) } };
    memcpy(destination, &to, 16);
}

/* MPSADBW: sums of absolute differences of four bytes of the source and each four adjacent ones of the destination. */
LANES_ORDERED(mpsadbw)
{
    Lanes a, b, to = { { 0 } };
    memcpy(&a, destination, 16);
    memcpy(&b, source, 16);
    const uint8_t *from = (const uint8_t *)&a + 4 * (order >> 2 & 1), *four = (const uint8_t *)&b + 4 * (order & 3);
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 4; j++)
            to.uw[i] += from[i + j] < four[j] ? four[j] - from[i + j] : from[i + j] - four[j];
    memcpy(destination, &to, 16);
}

/* Blends by the sign of each lane of a mask. */
#define LANES_CHOSEN(name, lane)                                                                                      \
    static __attribute__((noinline, unused)) void sse_##name(void *destination, const void *source, const void *mask) \
    {                                                                                                                 \
        Lanes a, b, chosen;                                                                                           \
        memcpy(&a, destination, 16);                                                                                  \
        memcpy(&b, source, 16);                                                                                       \
        memcpy(&chosen, mask, 16);                                                                                    \
        a.lane = LANES_WHERE(lane, chosen.lane < 0, b.lane, a.lane);                                                  \
        memcpy(destination, &a, 16);                                                                                  \
    }
LANES_CHOSEN(pblendvb, sb)
LANES_CHOSEN(blendvps, sd)
LANES_CHOSEN(blendvpd, sq)

#endif
