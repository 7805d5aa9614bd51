/* Reading and writing RFLAGS as one word. Cpu keeps the arithmetic flags lazily, as the operands of whatever set them
 * (state.h); the same two functions for Cython are in src/hvmx/core/state/ops.pxd. */
#ifndef HVMX_FLAGS_H
#define HVMX_FLAGS_H

#include "state.h"

static inline uint64_t read_rflags(const Cpu *cpu)
{
    uint64_t cf = cpu->fl_cf & 1;
    uint64_t low = (uint8_t)cpu->fl_res;
    low ^= low >> 4;
    uint64_t pf = (0x9669u >> (low & 15) & 1) ^ (cpu->fl_cf >> 8 & 1);
    uint64_t sf = (uint64_t)cpu->fl_res >> 63 ^ (cpu->fl_cf >> 16 & 1);
    uint64_t of = (uint64_t)cpu->fl_aux >> 63 ^ cf;
    return cpu->rflags | 2 | cf * FL_CF | pf * FL_PF | (uint64_t)(cpu->fl_aux & FL_AF)
           | (cpu->fl_res == 0) * (uint64_t)FL_ZF | sf * FL_SF | of * FL_OF;
}

static inline void write_rflags(Cpu *cpu, uint64_t flags)
{
    uint64_t cf = flags & FL_CF, zf = !!(flags & FL_ZF), sf = !!(flags & FL_SF), pf = !!(flags & FL_PF);
    cpu->rflags = (flags & ~(uint64_t)FL_ARITH) | 2;
    cpu->fl_res = zf ? 0 : 1;
    cpu->fl_cf = cf | (pf != zf) << 8 | sf << 16;
    cpu->fl_aux = (int64_t)((flags & FL_AF) | (uint64_t)(!!(flags & FL_OF) != cf) << 63);
}

#endif
