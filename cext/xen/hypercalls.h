/* The core's hook for SYSCALL. */
#ifndef HVMX_XEN_HYPERCALLS_H
#define HVMX_XEN_HYPERCALLS_H

#include "domain.h"

int xen_hypercall(Cpu *cpu, Op *op);
int64_t xen_multicall(struct hvmx_hypercall *call);

#endif
