/* The consoles of a domain. */
#ifndef HVMX_XEN_CONSOLE_H
#define HVMX_XEN_CONSOLE_H

#include "domain.h"

void console_ring(struct domain *d);
uint32_t xen_console_room(const struct domain *d);
uint32_t xen_console_input(struct domain *d, const uint8_t *text, uint32_t size);
int64_t xen_console_io(struct hvmx_hypercall *call);

#endif
