/* The grant table. */
#ifndef HVMX_XEN_GRANT_TABLE_H
#define HVMX_XEN_GRANT_TABLE_H

#include "domain.h"

enum { GRANT_FRAMES = 32 };

int64_t xen_grant_table_op(struct hvmx_hypercall *call);

#endif
