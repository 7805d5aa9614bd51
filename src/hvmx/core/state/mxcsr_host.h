/* The host's MXCSR, lent to the guest.
 *
 * Loading MXCSR takes longer than most of the arithmetic that it controls. So if the guest's MXCSR is as after
 * power-up (all exceptions masked, round to nearest, denormals honoured), the host's MXCSR is set to the same value
 * once, and collects the exception flags of many operations. settle_mxcsr() restores it and adds the flags to the
 * guest's: before anything reads or writes the guest's MXCSR, and before code of the host that needs its own.
 */
#ifndef HVMX_MXCSR_HOST_H
#define HVMX_MXCSR_HOST_H

#include "state.h"

enum { MXCSR_FLAG_BITS = 0x3f, MXCSR_POWER_UP = 0x1f80 };

static const uint32_t mxcsr_power_up = MXCSR_POWER_UP;

/* False: the guest's MXCSR is different from that. */
static inline int lend_mxcsr(Cpu *cpu)
{
    if ((cpu->mxcsr & ~(uint32_t)MXCSR_FLAG_BITS) != MXCSR_POWER_UP)
        return 0;
    __asm__ volatile("stmxcsr %0\n\tldmxcsr %1" : "=m"(cpu->host_mxcsr) : "m"(mxcsr_power_up));
    cpu->mxcsr_lent = 1;
    return 1;
}

static __attribute__((noinline, unused)) void take_mxcsr_back(Cpu *cpu)
{
    __asm__ volatile("stmxcsr %0\n\tldmxcsr %1" : "=m"(cpu->gathered_mxcsr) : "m"(cpu->host_mxcsr));
    cpu->mxcsr |= cpu->gathered_mxcsr & MXCSR_FLAG_BITS;
    cpu->mxcsr_lent = 0;
}

static inline void settle_mxcsr(Cpu *cpu)
{
    if (UNLIKELY(cpu->mxcsr_lent))
        take_mxcsr_back(cpu);
}

#endif
