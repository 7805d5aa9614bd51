/* The hypercall for event channels. */
#ifndef HVMX_XEN_EVENTS_H
#define HVMX_XEN_EVENTS_H

#include "domain.h"

int64_t xen_event_channel_op(struct hvmx_hypercall *call);

#endif
