/* The core's hooks for exceptions, privileged instructions and events; iret. */
#ifndef HVMX_XEN_TRAPS_H
#define HVMX_XEN_TRAPS_H

#include "domain.h"

int xen_exception(Cpu *cpu, uint32_t vector, uint32_t error, uint64_t cr2);
int xen_privileged(Cpu *cpu, uint64_t ip);
int xen_event(Cpu *cpu);
int64_t xen_set_trap_table(struct hvmx_hypercall *call);
int64_t xen_set_callbacks(struct hvmx_hypercall *call);
int64_t xen_callback_op(struct hvmx_hypercall *call);
int64_t xen_stack_switch(struct hvmx_hypercall *call);
int64_t xen_iret(struct hvmx_hypercall *call);

#endif
