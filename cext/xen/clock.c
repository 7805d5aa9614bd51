/* Time of a domain: system time, the next cycle at which something is due, run states, sleep and waking.
 *
 * System time is a fixed function of the guest's TSC from cycle 0 on, so the guest, by the scale in vcpu_time_info,
 * and the hypervisor compute the same nanosecond, and both depend on guest cycles alone. */
#include "clock.h"

static uint64_t nanoseconds(const struct domain *d, uint64_t cycles)
{
    uint64_t scaled = d->time_shift < 0 ? cycles >> -d->time_shift : cycles << d->time_shift;
    return (uint64_t)((unsigned __int128)scaled * d->time_mul >> 32);
}

/* The first cycle at which system time has reached `ns`. */
static uint64_t cycle_of(const struct domain *d, uint64_t ns)
{
    if (ns >> 62)
        return NEVER;
    unsigned __int128 scaled = (((unsigned __int128)ns << 32) + d->time_mul - 1) / d->time_mul;
    if (d->time_shift < 0)
        scaled <<= -d->time_shift;
    else
        scaled = (scaled + (1u << d->time_shift) - 1) >> d->time_shift;
    return scaled >> 64 ? NEVER : (uint64_t)scaled;
}

uint64_t system_time(const struct domain *d)
{
    return nanoseconds(d, cycles_now(d->cpu));
}

void start_time(struct domain *d, uint64_t epoch)
{
    uint64_t ticks = d->frequency;
    for (; ticks > 2000000000ull; ticks >>= 1)
        d->time_shift--;
    for (; ticks <= 1000000000ull; ticks <<= 1)
        d->time_shift++;
    d->time_mul = (uint32_t)((1000000000ull << 32) / ticks);
    d->vcpu_info->time = (struct vcpu_time_info){
        .version = 2, .tsc_to_system_mul = d->time_mul, .tsc_shift = d->time_shift, .flags = XEN_PVCLOCK_TSC_STABLE_BIT };
    d->shared_info->wc_version = 2;
    d->shared_info->wc_sec = (uint32_t)epoch;
    d->shared_info->wc_sec_hi = (uint32_t)(epoch >> 32);
    d->singleshot = d->poll_timeout = NEVER;
    d->period = 10 * MILLISECOND; /* a PV guest starts with a tick of 100 Hz */
}

/* Sets Cpu.deadline to the next time at which the platform, or a timer of the domain, has something to do. */
void schedule(struct domain *d)
{
    uint64_t next = d->singleshot, cycle;
    if (d->polling && d->poll_timeout < next)
        next = d->poll_timeout;
    if (d->period && !d->cpu->halted && d->period_last + d->period < next) /* which wakes no one */
        next = d->period_last + d->period;
    cycle = cycle_of(d, next);
    if (cycle > d->cpu->platform_deadline)
        cycle = d->cpu->platform_deadline;
    if (cycle < d->cpu->deadline)
        d->cpu->pending |= PEND_BUDGET; /* the run loop's current budget may reach beyond it */
    d->cpu->deadline = cycle;
}

void xen_schedule(Cpu *cpu)
{
    schedule(cpu->pv);
}

void enter_runstate(struct domain *d, int state)
{
    struct vcpu_runstate_info *run = &d->runstate;
    uint64_t now = system_time(d);
    run->time[run->state] += now - run->state_entry_time;
    run->state = state;
    run->state_entry_time = now;
    if (d->runstate_area)
        guest_write(d->cpu, d->runstate_area, run, sizeof *run);
}

void block_until_event(struct domain *d)
{
    d->cpu->halted = 1;
    enter_runstate(d, RUNSTATE_blocked);
    schedule(d);
}

void wake(struct domain *d)
{
    if (!d->cpu->halted)
        return;
    d->cpu->halted = 0;
    d->polling = 0;
    d->poll_timeout = NEVER;
    enter_runstate(d, RUNSTATE_running);
    schedule(d);
}
