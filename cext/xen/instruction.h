/* The instruction at a linear address, and the price of emulating one. */
#ifndef HVMX_XEN_INSTRUCTION_H
#define HVMX_XEN_INSTRUCTION_H

#include "domain.h"

enum { EXIT_CPUID = 10, EXIT_CR_ACCESS = 28, EXIT_IO = 30 }; /* basic exit reasons: SDM vol. 3, appendix C */

/* All that is emulated for a PV guest is of one price. */
static inline void charge_emulation(Cpu *cpu)
{
    charge_fraction(cpu, cpu->exit_cost[EXIT_CR_ACCESS]);
}

struct decoded {
    uint8_t bytes[15];
    uint32_t length;      /* bytes that could be read */
    uint32_t at;          /* next byte */
    uint8_t rex, operand16, repeat, two_byte;
    uint8_t overridden;   /* a prefix names FS, GS or addresses of 32 bits */
    uint8_t opcode, modrm;
};

int fetch(struct domain *d, uint64_t ip, struct decoded *in);
int next_byte(struct decoded *in, uint8_t *byte);

#endif
