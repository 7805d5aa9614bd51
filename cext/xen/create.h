/* Creating, starting and destroying a domain: what src/hvmx/pv/xen.pyx calls. */
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
/* The hypervisor takes the memory that it needs from the end; the rest is the domain's. Its page `pfn` is frame
 * `reserved - 1 - pfn`: in reverse order, so that a guest that confuses the two fails soon. NULL: not enough memory. */
struct domain *xen_create(Cpu *cpu, const struct domain_config *config);
void xen_destroy(struct domain *d);

/* The start of day, whose pages start_of_day.py has filled in. */
struct domain_start {
    uint64_t l4;                    /* frame of the page tables, which are then validated, pinned and loaded */
    uint64_t entry, stack, start_info;
    uint64_t console_frame;         /* of the console ring; 0: none */
};
int xen_start(struct domain *d, const struct domain_start *start);

#endif
