/* Fetching and decoding an instruction of the guest, and the cost of emulating one. */
#ifndef HVMX_XEN_INSTRUCTION_H
#define HVMX_XEN_INSTRUCTION_H

#include "domain.h"
#include "families.h"
#include "insn.h"

/* Every instruction that is emulated for a PV guest has the same cost. */
static inline void charge_emulation(Cpu *cpu)
{
    charge(cpu, CHARGE_EMULATION, cpu->exit_cost[EXIT_REASON_CR_ACCESS]);
}

/* The linear address of an instruction: only in 64-bit code is the base of CS ignored. */
static inline uint64_t instruction_address(const Cpu *cpu, uint64_t ip)
{
    return cpu->seg[SEG_CS].access & AR_L ? ip : (uint32_t)(cpu->seg[SEG_CS].base + ip);
}

/* Decodes the instruction at `ip`. 0: the processor has no such instruction, or its bytes cannot all be read. */
int fetch(struct domain *d, uint64_t ip, Insn *insn);

#endif
