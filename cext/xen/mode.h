/* The kernel and the user mode of a PV guest, and its RFLAGS. */
#ifndef HVMX_XEN_MODE_H
#define HVMX_XEN_MODE_H

#include "domain.h"

void set_rflags(struct domain *d, uint64_t flags);
void load_page_tables(struct domain *d);
void toggle_mode(struct domain *d);

#endif
