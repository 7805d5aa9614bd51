/* Entering the guest's kernel by one of its handlers. */
#ifndef HVMX_XEN_BOUNCE_H
#define HVMX_XEN_BOUNCE_H

#include "domain.h"

enum { BOUNCE_ERROR = 1, BOUNCE_MASKS_EVENTS = 2, BOUNCE_SOFTWARE = 4 /* by INT n */ };
enum { TRAP_MASKS_EVENTS = 4 }; /* in trap_info.flags, above the privilege that INT n needs */

void bounce(struct domain *d, enum Charge kind, uint64_t handler, uint32_t error, int flags, const char *what);
void enter_trap(struct domain *d, uint32_t vector, uint32_t error, int flags);
int deliver_event(struct domain *d);
void deliver_nmi(struct domain *d);

#endif
