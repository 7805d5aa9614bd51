/* Fetching and decoding an instruction of the guest, and the cost of emulating one. */
#ifndef HVMX_XEN_INSTRUCTION_H
#define HVMX_XEN_INSTRUCTION_H

#include "domain.h"
#include "families.h"
#include "insn.h"

/* Every instruction that is emulated for a PV guest has the same cost. */
static inline void charge_emulation(Cpu *cpu)
{
    charge_fraction(cpu, cpu->exit_cost[EXIT_REASON_CR_ACCESS]);
}

/* Decodes the instruction at `ip`. 0: the processor has no such instruction, or its bytes cannot all be read. */
int fetch(struct domain *d, uint64_t ip, Insn *insn);

#endif
