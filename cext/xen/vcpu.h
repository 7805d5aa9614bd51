/* The virtual processor: its timers and its hypercalls. */
#ifndef HVMX_XEN_VCPU_H
#define HVMX_XEN_VCPU_H

#include "domain.h"

/* Cpu.on_deadline */
int xen_deadline(Cpu *cpu);
int64_t xen_vcpu_op(struct hvmx_hypercall *call);
int64_t xen_set_timer_op(struct hvmx_hypercall *call);
int64_t xen_sched_op(struct hvmx_hypercall *call);

#endif
