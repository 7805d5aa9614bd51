/* The instruction at a linear address, and the price of emulating one. */
#ifndef HVMX_XEN_INSTRUCTION_H
#define HVMX_XEN_INSTRUCTION_H

#include "domain.h"
#include "families.h"
#include "insn.h"

enum { EXIT_CPUID = 10, EXIT_CR_ACCESS = 28, EXIT_IO = 30 }; /* basic exit reasons: SDM vol. 3, appendix C */

/* All that is emulated for a PV guest is of one price. */
static inline void charge_emulation(Cpu *cpu)
{
    charge_fraction(cpu, cpu->exit_cost[EXIT_CR_ACCESS]);
}

/* Whether there is an instruction at `ip`, whole and one that the processor has: `*insn` is it. */
int fetch(struct domain *d, uint64_t ip, Insn *insn);

#endif
