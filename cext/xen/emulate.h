/* Privileged instructions that the hypervisor emulates. What they raise is in domain.emulated_fault. */
#ifndef HVMX_XEN_EMULATE_H
#define HVMX_XEN_EMULATE_H

#include "domain.h"

/* 0: done, or it ends in domain.emulated_fault, or its exit handler raised. 1: the #GP that brought it here stands. */
int emulate_privileged(struct domain *d, uint64_t ip);
/* 1: the #UD was a forced CPUID, which is done or ends as above. */
int forced_cpuid(struct domain *d);
int64_t xen_fpu_taskswitch(struct hvmx_hypercall *call);
int64_t xen_set_debugreg(struct hvmx_hypercall *call);
int64_t xen_get_debugreg(struct hvmx_hypercall *call);
int64_t xen_physdev_op(struct hvmx_hypercall *call);

#endif
