/* Privileged instructions that the hypervisor emulates. An exception that they raise is left in domain.emulated_fault. */
#ifndef HVMX_XEN_EMULATE_H
#define HVMX_XEN_EMULATE_H

#include "domain.h"

/* 0: emulated, or it has raised domain.emulated_fault, or its exit handler raised in Python. 1: refused, the guest gets the #GP
 * that the processor raised. */
int emulate_privileged(struct domain *d, uint64_t ip);
/* 1: the #UD was that of a forced CPUID, which has been emulated, or has raised as above. */
int forced_cpuid(struct domain *d);
/* Whether RDMSR of this model-specific register is answered. */
int has_msr(struct domain *d, uint32_t number);
int64_t xen_fpu_taskswitch(struct hvmx_hypercall *call);
int64_t xen_set_debugreg(struct hvmx_hypercall *call);
int64_t xen_get_debugreg(struct hvmx_hypercall *call);
int64_t xen_physdev_op(struct hvmx_hypercall *call);

#endif
