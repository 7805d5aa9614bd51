/* Ports of event channels: allocating and raising them. */
#ifndef HVMX_XEN_PORTS_H
#define HVMX_XEN_PORTS_H

#include "domain.h"

static inline int event_deliverable(const struct domain *d)
{
    return d->vcpu_info->evtchn_upcall_pending && !d->vcpu_info->evtchn_upcall_mask;
}

void raise_port(struct domain *d, uint32_t port);
void raise_virq(struct domain *d, uint32_t virq);
int64_t unmask_port(struct domain *d, uint32_t port);
uint32_t free_port(struct domain *d);
uint32_t host_port(struct domain *d);

#endif
