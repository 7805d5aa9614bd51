/* Time of a domain, its deadline and its run states. */
#ifndef HVMX_XEN_CLOCK_H
#define HVMX_XEN_CLOCK_H

#include "domain.h"

#define NEVER (~0ull)
#define MILLISECOND 1000000ull

static inline uint64_t cycles_now(const Cpu *cpu)
{
    return guest_time(cpu) / CYCLE_FRACTION;
}

uint64_t system_time(const struct domain *d);
void start_time(struct domain *d, uint64_t epoch);
void schedule(struct domain *d);
/* Cpu.pv_schedule */
void xen_schedule(Cpu *cpu);
void enter_runstate(struct domain *d, int state);
void block_until_event(struct domain *d);
void wake(struct domain *d);

#endif
