/* What ends a domain, and how much work one hypercall may do. */
#include "domain.h"

#include <stdarg.h>
#include <stdio.h>

void xen_stop(struct domain *d, enum domain_state state)
{
    if (d->state == DOMAIN_RUNNING)
        d->state = (uint8_t)state;
    d->cpu->stop_request = 1;
}

void domain_crash(struct domain *d, const char *format, ...)
{
    va_list arguments;
    if (d->state == DOMAIN_RUNNING) {
        va_start(arguments, format);
        vsnprintf(d->crash_reason, sizeof d->crash_reason, format, arguments);
        va_end(arguments);
        d->shutdown_code = SHUTDOWN_crash;
    }
    xen_stop(d, DOMAIN_CRASHED);
}

/* Elements and validated entries of one call, beyond which it is preempted (it then goes on as a new call, and the run
 * loop sees limits and interrupts in between). Counted in work, not in time, so that it falls at the same place always. */
#define WORK_LIMIT (1u << 16)

int preempt_after(struct domain *d)
{
    d->work++;
    charge_fraction(d->cpu, d->update_cost);
    return d->work > WORK_LIMIT;
}
