/* Integer instructions of SSSE3, SSE4.1 and SSE4.2, lane by lane in C: the host need not have them.
 *
 * The destination is a register of the guest; the source is one, which may be the same, or memory, of which no more
 * is read than the instruction reads. All are out of line: a handler whose locals have their address taken could not
 * jump on.
 */
#ifndef HVMX_SSE_LANES_H
#define HVMX_SSE_LANES_H

#include <stdint.h>
#include <string.h>

typedef union {
    uint8_t ub[16];
    int8_t sb[16];
    uint16_t uw[8];
    int16_t sw[8];
    uint32_t ud[4];
    int32_t sd[4];
    uint64_t uq[2];
    int64_t sq[2];
} Lanes;

#define LANES_OF(lane, bytes) ((int)((bytes) / sizeof(((Lanes *)0)->lane[0])))

/* A function of the destination `a` and the source `b`, both of `bytes`, to `to`. */
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

/* Each lane from the lanes at its place. */
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
#define LANES_SIGNED(lane) (b.lane[i] < 0 ? -a.lane[i] : b.lane[i] ? a.lane[i] : 0)
#define LANES_LESSER(lane) (a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i])
#define LANES_GREATER(lane) (a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i])

/* SSSE3 */
LANES_EACH(pshufb, ub, b.ub[i] & 0x80 ? 0 : a.ub[b.ub[i] & (bytes - 1)])
LANES_PAIRS(phaddw, uw, x + y)
LANES_PAIRS(phaddd, ud, x + y)
LANES_PAIRS(phaddsw, sw, LANES_SATURATED(x + y))
LANES_PAIRS(phsubw, uw, x - y)
LANES_PAIRS(phsubd, ud, x - y)
LANES_PAIRS(phsubsw, sw, LANES_SATURATED(x - y))
LANES_EACH(pmaddubsw, sw,
           LANES_SATURATED(a.ub[2 * i] * b.sb[2 * i] + a.ub[2 * i + 1] * b.sb[2 * i + 1]))
LANES_EACH(psignb, sb, LANES_SIGNED(sb))
LANES_EACH(psignw, sw, LANES_SIGNED(sw))
LANES_EACH(psignd, sd, LANES_SIGNED(sd))
LANES_EACH(pabsb, sb, b.sb[i] < 0 ? -b.sb[i] : b.sb[i])
LANES_EACH(pabsw, sw, b.sw[i] < 0 ? -b.sw[i] : b.sw[i])
LANES_EACH(pabsd, sd, b.sd[i] < 0 ? -b.sd[i] : b.sd[i])
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
LANES_EACH(pminsb, sb, LANES_LESSER(sb))
LANES_EACH(pminsd, sd, LANES_LESSER(sd))
LANES_EACH(pminuw, uw, LANES_LESSER(uw))
LANES_EACH(pminud, ud, LANES_LESSER(ud))
LANES_EACH(pmaxsb, sb, LANES_GREATER(sb))
LANES_EACH(pmaxsd, sd, LANES_GREATER(sd))
LANES_EACH(pmaxuw, uw, LANES_GREATER(uw))
LANES_EACH(pmaxud, ud, LANES_GREATER(ud))
LANES_EACH(pmulld, ud, a.ud[i] * b.ud[i])
LANES_EACH(pmuldq, sq, (int64_t)a.sd[2 * i] * b.sd[2 * i])
LANES_EACH(pcmpeqq, sq, -(a.sq[i] == b.sq[i]))
LANES_EACH(pcmpgtq, sq, -(a.sq[i] > b.sq[i]))

static inline int32_t lanes_unsigned_word(int32_t value)
{
    return value < 0 ? 0 : value > 0xffff ? 0xffff : value;
}

LANES_EACH(packusdw, uw, lanes_unsigned_word(i < 4 ? a.sd[i] : b.sd[i - 4]))

/* The least word, and its place. */
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

/* Lanes of the source, from its lowest on, extended: `from` and `lane` differ in width and agree in sign. */
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

#define LANES_BLENDED(name, lane)                                                                                     \
    LANES_ORDERED(name)                                                                                               \
    {                                                                                                                 \
        Lanes a, b;                                                                                                   \
        memcpy(&a, destination, 16);                                                                                  \
        memcpy(&b, source, 16);                                                                                       \
        for (int i = 0; i < LANES_OF(lane, 16); i++)                                                                  \
            if (order >> i & 1)                                                                                       \
                a.lane[i] = b.lane[i];                                                                                \
        memcpy(destination, &a, 16);                                                                                  \
    }
LANES_BLENDED(blendps, ud)
LANES_BLENDED(blendpd, uq)
LANES_BLENDED(pblendw, uw)

/* Bytes from `order` on of source and destination together, zeros beyond them. */
LANES_ORDERED(palignr)
{
    uint8_t wide[48] = { 0 };
    memcpy(wide, source, 16);
    memcpy(wide + 16, destination, 16);
    memcpy(destination, wide + (order < 32 ? order : 32), 16);
}

static inline uint64_t mmx_palignr(uint64_t high, uint64_t low, uint32_t order)
{
    if (order >= 8)
        return order < 16 ? high >> 8 * (order - 8) : 0;
    return order ? high << 8 * (8 - order) | low >> 8 * order : low;
}

/* Distances of four bytes of the source from each four adjacent ones of the destination. */
LANES_ORDERED(mpsadbw)
{
    Lanes a, b, to = { { 0 } };
    memcpy(&a, destination, 16);
    memcpy(&b, source, 16);
    const uint8_t *from = a.ub + 4 * (order >> 2 & 1), *four = b.ub + 4 * (order & 3);
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 4; j++)
            to.uw[i] += from[i + j] < four[j] ? four[j] - from[i + j] : from[i + j] - four[j];
    memcpy(destination, &to, 16);
}

/* By the sign of each lane of a mask. */
#define LANES_CHOSEN(name, lane)                                                                                      \
    static __attribute__((noinline, unused)) void sse_##name(void *destination, const void *source, const void *mask) \
    {                                                                                                                 \
        Lanes a, b, chosen;                                                                                           \
        memcpy(&a, destination, 16);                                                                                  \
        memcpy(&b, source, 16);                                                                                       \
        memcpy(&chosen, mask, 16);                                                                                    \
        for (int i = 0; i < LANES_OF(lane, 16); i++)                                                                  \
            if (chosen.lane[i] < 0)                                                                                   \
                a.lane[i] = b.lane[i];                                                                                \
        memcpy(destination, &a, 16);                                                                                  \
    }
LANES_CHOSEN(pblendvb, sb)
LANES_CHOSEN(blendvps, sd)
LANES_CHOSEN(blendvpd, sq)

#endif
