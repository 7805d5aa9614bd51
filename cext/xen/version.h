/* Version and features of the hypervisor. */
#ifndef HVMX_XEN_VERSION_H
#define HVMX_XEN_VERSION_H

#include "domain.h"

#define XEN_VERSION (4 << 16 | 17)  /* of the Xen whose ABI this is: major, minor */

int64_t xen_version(struct hvmx_hypercall *call);

#endif
