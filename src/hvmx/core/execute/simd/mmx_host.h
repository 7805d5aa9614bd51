/* MMX arithmetic by the host's SSE unit, on the low halves of its registers: the host's MMX registers are its
 * x87 registers, which stay as they are.
 *
 * `destination` is 8 bytes of the guest's registers; of the source no more is read than the instruction reads.
 */
#ifndef HVMX_MMX_HOST_H
#define HVMX_MMX_HOST_H

#include "sse_host.h"

#define MMX_BY(name, load, type, operation)                                                                           \
    static inline void mmx_##name(void *destination, const void *source)                                              \
    {                                                                                                                 \
        __asm__("movq %[d], %%xmm0\n\t" load " %[s], %%xmm1\n\t" operation "\n\tmovq %%xmm0, %[d]"                    \
                : [d] "+m"(*(uint64_t *)destination) : [s] "m"(*(const type *)source) : "xmm0", "xmm1");              \
    }

#define MMX_LANES(name) MMX_BY(name, "movq", uint64_t, #name " %%xmm1, %%xmm0")
SIMD_LANES(MMX_LANES)

/* The low half of the result comes from the destination, the high half from the source. */
#define MMX_PACK(name) MMX_BY(name, "movq", uint64_t, "punpcklqdq %%xmm1, %%xmm0\n\t" #name " %%xmm0, %%xmm0")
SIMD_PACKS(MMX_PACK)

/* Interleaves the low halves or the high ones: both are in the result of SSE's interleaving of its low halves. */
#define MMX_INTERLEAVE(lanes)                                                                                         \
    MMX_BY(punpckl##lanes, "movd", uint32_t, "punpckl" #lanes " %%xmm1, %%xmm0")                                      \
    MMX_BY(punpckh##lanes, "movq", uint64_t, "punpckl" #lanes " %%xmm1, %%xmm0\n\tpsrldq $8, %%xmm0")
MMX_INTERLEAVE(bw)
MMX_INTERLEAVE(wd)
MMX_INTERLEAVE(dq)

static inline uint32_t mmx_pmovmskb(const void *source)
{
    uint32_t mask;
    __asm__("movq %[s], %%xmm0\n\tpmovmskb %%xmm0, %[m]" : [m] "=r"(mask) : [s] "m"(*(const uint64_t *)source) : "xmm0");
    return mask;
}

static inline uint64_t mmx_pshufw(uint64_t from, uint32_t order)
{
    uint64_t to = 0;
    for (int i = 0; i < 4; i++)
        to |= (from >> 16 * (order >> 2 * i & 3) & 0xffff) << 16 * i;
    return to;
}

/* Conversions under MXCSR, as in sse_host.h: from two integers, and to two integers, which are left in `result`. */
SSE_FUNCTION sse_cvtpi2ps(uint32_t control, void *result, const void *destination, const void *source)
{
    SSE_RUN("movups %[d], %%xmm0\n\tmovq %[s], %%xmm1\n\tcvtdq2ps %%xmm1, %%xmm1\n\tmovsd %%xmm1, %%xmm0\n\tmovups %%xmm0, %[r]",
            [r] "=m"(*(Xmm *)result), SSE_BOTH([d] "m"(*(const Xmm *)destination), [s] "m"(*(const uint64_t *)source)));
    return SSE_RAISED;
}

#define MMX_TO_INTEGERS(name, load, type, instruction)                                                                \
    SSE_FUNCTION sse_##name(uint32_t control, void *result, const void *destination, const void *source)              \
    {                                                                                                                 \
        SSE_RUN(load " %[s], %%xmm0\n\t" instruction " %%xmm0, %%xmm0\n\tmovq %%xmm0, %[r]",                          \
                [r] "=m"(*(uint64_t *)result), [s] "m"(*(const type *)source));                                       \
        return SSE_RAISED;                                                                                         \
    }
MMX_TO_INTEGERS(cvtps2pi, "movq", uint64_t, "cvtps2dq")
MMX_TO_INTEGERS(cvttps2pi, "movq", uint64_t, "cvttps2dq")
MMX_TO_INTEGERS(cvtpd2pi, "movups", Xmm, "cvtpd2dq")
MMX_TO_INTEGERS(cvttpd2pi, "movups", Xmm, "cvttpd2dq")

#endif
