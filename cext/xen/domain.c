/* Ending a domain, and limiting the work of one hypercall. */
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

int preempt_after(struct domain *d)
{
    d->work++;
    charge(d->cpu, CHARGE_UPDATE, d->update_cost);
    return d->work > d->work_limit;
}
