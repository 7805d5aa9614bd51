/* A domain's creation, start and end, for who runs it (src/hvmx/pv/xen.pyx). */
#ifndef HVMX_XEN_CREATE_H
#define HVMX_XEN_CREATE_H

#include "domain.h"

struct domain_config {
    uint64_t frequency, epoch;      /* guest cycles a second; seconds since 1970 at cycle 0 */
    uint32_t flags;                 /* SIF_PRIVILEGED | SIF_INITDOMAIN for a dom0 */
    uint32_t update_cost, entry_cost; /* as in struct domain */
    int (*console)(void *owner, const char *text, uint32_t size); /* 1: it raised, and the run ends */
    void *owner;
};
/* What the hypervisor needs of memory is taken from its end; the rest is the domain's: page `pfn` of it is frame
 * `reserved - 1 - pfn`. The order is reversed so that a guest that mixes the two up is found out. NULL: no memory. */
struct domain *xen_create(Cpu *cpu, const struct domain_config *config);
void xen_destroy(struct domain *d);

/* The start of day, as start_of_day.py has laid it out. */
struct domain_start {
    uint64_t l4;                    /* frame of the page tables, which are then validated, pinned and loaded */
    uint64_t entry, stack, start_info;
    uint64_t console_frame;         /* of the console ring; 0: none */
};
int xen_start(struct domain *d, const struct domain_start *start);

#endif
