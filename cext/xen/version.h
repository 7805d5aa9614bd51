/* What the hypervisor says of itself. */
#ifndef HVMX_XEN_VERSION_H
#define HVMX_XEN_VERSION_H

#include "domain.h"

#define XEN_VERSION (4 << 16 | 17)  /* major and minor of the Xen whose ABI this is */

int64_t xen_version(struct hvmx_hypercall *call);

#endif
