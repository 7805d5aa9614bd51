/* The domain's reservation of memory. */
#ifndef HVMX_XEN_MEMORY_OP_H
#define HVMX_XEN_MEMORY_OP_H

#include "domain.h"

int64_t xen_memory_op(struct hvmx_hypercall *call);

#endif
