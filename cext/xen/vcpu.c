/* The virtual processor: its timers and its hypercalls (vcpu_op, set_timer_op, sched_op). */
#include "vcpu.h"

#include "clock.h"
#include "frames.h"
#include "ports.h"

#include <string.h>

/* The hook for Cpu.deadline: fires what is due. */
int xen_deadline(Cpu *cpu)
{
    struct domain *d = cpu->pv;
    uint64_t now = system_time(d);
    int result = 0;
    if (cycles_now(cpu) >= cpu->platform_deadline)
        result = d->platform_on_deadline(cpu);
    if (now >= d->singleshot) {
        d->singleshot = NEVER;
        raise_virq(d, VIRQ_TIMER);
    }
    if (d->period && !cpu->halted && now >= d->period_last + d->period) {
        d->period_last += (now - d->period_last) / d->period * d->period;
        raise_virq(d, VIRQ_TIMER);
    }
    if (d->polling && now >= d->poll_timeout)
        wake(d);
    schedule(d);
    return result;
}

/* --- timers ---------------------------------------------------------------------------------------------------------- */
/* set_timer_op(system time; 0: none) */
int64_t xen_set_timer_op(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    uint64_t timeout = call->args[0], now = system_time(d);
    /* A negative time or one weeks ahead comes from a guest whose clock has wrapped: as under Xen, the timer fires in 100 ms. */
    if (timeout >> 63 || (timeout > now && (timeout - now) >> 50))
        timeout = now + 100 * MILLISECOND;
    d->singleshot = timeout ? timeout : NEVER;
    schedule(d);
    return 0;
}

static int64_t set_singleshot(struct domain *d, uint64_t pointer)
{
    struct vcpu_set_singleshot_timer set;
    if (guest_read(d->cpu, &set, pointer, sizeof set))
        return -XEN_EFAULT;
    d->singleshot = set.timeout_abs_ns;
    schedule(d);
    return 0;
}

static int64_t set_periodic(struct domain *d, uint64_t pointer)
{
    uint64_t period;
    if (guest_read(d->cpu, &period, pointer, sizeof period))
        return -XEN_EFAULT;
    if (period < MILLISECOND || period >> 62)
        return -XEN_EINVAL;
    d->period = period;
    d->period_last = system_time(d);
    schedule(d);
    return 0;
}

/* --- vcpu_op ---------------------------------------------------------------------------------------------------------- */
static int64_t register_vcpu_info(struct domain *d, uint64_t pointer)
{
    struct vcpu_register_vcpu_info reg;
    if (guest_read(d->cpu, &reg, pointer, sizeof reg))
        return -XEN_EFAULT;
    if (d->vcpu_info_frame)
        return -XEN_EINVAL;
    if (reg.offset > 0x1000 - sizeof(struct vcpu_info) || reg.offset % 8)
        return -XEN_ENXIO;
    if (get_frame_and_type(d, reg.mfn, FRAME_WRITABLE)) /* this reference is kept */
        return -XEN_EINVAL;
    struct vcpu_info *info = (struct vcpu_info *)((uint8_t *)frame_memory(d, reg.mfn) + reg.offset);
    page_changes(d->cpu, reg.mfn);
    memmove(info, d->vcpu_info, sizeof *info);
    d->vcpu_info = info;
    d->vcpu_info_frame = reg.mfn;
    /* An event may have been marked in the old place after the guest last looked there: mark all words as pending. */
    info->evtchn_pending_sel = ~0ull;
    info->evtchn_upcall_pending = 1;
    d->cpu->pending |= PEND_EVENT;
    return 0;
}

static int64_t register_area(struct domain *d, uint64_t pointer, uint64_t *area)
{
    return guest_read(d->cpu, area, pointer, sizeof *area) ? -XEN_EFAULT : 0;
}

static int64_t runstate_area(struct domain *d, uint64_t pointer)
{
    if (register_area(d, pointer, &d->runstate_area))
        return -XEN_EFAULT;
    enter_runstate(d, RUNSTATE_running);
    return 0;
}

static int64_t get_runstate(struct domain *d, uint64_t pointer)
{
    enter_runstate(d, RUNSTATE_running);
    return guest_write(d->cpu, pointer, &d->runstate, sizeof d->runstate);
}

/* The scale of time never changes, so a single copy stays right. */
static int64_t time_area(struct domain *d, uint64_t pointer)
{
    uint64_t area;
    if (register_area(d, pointer, &area))
        return -XEN_EFAULT;
    return area ? guest_write(d->cpu, area, &d->vcpu_info->time, sizeof d->vcpu_info->time) : 0;
}

/* vcpu_op(command, processor, *argument) */
int64_t xen_vcpu_op(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    uint64_t pointer = call->args[2];
    if (arg32(call, 1))
        return -XEN_ENOENT;
    switch (arg32(call, 0)) {
    case VCPUOP_up:
        return 0;
    case VCPUOP_is_up:
        return 1;
    case VCPUOP_get_runstate_info:
        return get_runstate(d, pointer);
    case VCPUOP_register_runstate_memory_area:
        return runstate_area(d, pointer);
    case VCPUOP_set_periodic_timer:
        return set_periodic(d, pointer);
    case VCPUOP_stop_periodic_timer:
        d->period = 0;
        schedule(d);
        return 0;
    case VCPUOP_set_singleshot_timer:
        return set_singleshot(d, pointer);
    case VCPUOP_stop_singleshot_timer:
        d->singleshot = NEVER;
        schedule(d);
        return 0;
    case VCPUOP_send_nmi:
        if (pointer)
            return -XEN_EINVAL;
        d->nmi_pending = 1;
        return 0;
    case VCPUOP_register_vcpu_info:
        return register_vcpu_info(d, pointer);
    case VCPUOP_register_vcpu_time_memory_area:
        return time_area(d, pointer);
    case VCPUOP_get_physid: /* only for a virtual processor pinned to a physical one */
        return -XEN_EINVAL;
    default:
        return -XEN_ENOSYS;
    }
}

/* --- sched_op --------------------------------------------------------------------------------------------------------- */
/* The first reason given (its low 8 bits) is kept. */
static int64_t shut_down(struct domain *d, uint64_t pointer, int now)
{
    struct sched_shutdown shutdown;
    if (guest_read(d->cpu, &shutdown, pointer, sizeof shutdown))
        return -XEN_EFAULT;
    if (d->shutdown_code == SHUTDOWN_CODE_NONE)
        d->shutdown_code = (uint8_t)shutdown.reason;
    if (now)
        xen_stop(d, DOMAIN_SHUT_DOWN);
    return 0;
}

static int64_t block(struct domain *d)
{
    d->vcpu_info->evtchn_upcall_mask = 0;
    if (!event_deliverable(d))
        block_until_event(d);
    return 0;
}

/* Sleeps until one of the given ports is pending, masked or not. */
static int64_t poll(struct domain *d, uint64_t pointer)
{
    struct sched_poll poll;
    if (guest_read(d->cpu, &poll, pointer, sizeof poll))
        return -XEN_EFAULT;
    if (poll.nr_ports > 128)
        return -XEN_EINVAL;
    uint32_t port = 0;
    for (uint32_t i = 0; i < poll.nr_ports; i++) {
        if (guest_read(d->cpu, &port, poll.ports + i * sizeof port, sizeof port))
            return -XEN_EFAULT;
        if (port >= EVTCHN_2L_NR_CHANNELS)
            return -XEN_EINVAL;
        if (d->shared_info->evtchn_pending[port >> 6] >> (port & 63) & 1)
            return 0;
    }
    if (event_deliverable(d) || (poll.timeout && poll.timeout <= system_time(d)))
        return 0;
    d->polling = 1;
    d->poll_port = poll.nr_ports == 1 ? port : 0;
    d->poll_timeout = poll.timeout ? poll.timeout : NEVER;
    block_until_event(d);
    return 0;
}

/* sched_op(command, *argument) */
int64_t xen_sched_op(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    switch (arg32(call, 0)) {
    case SCHEDOP_yield:
        return 0;
    case SCHEDOP_block:
        return block(d);
    case SCHEDOP_shutdown:
        return shut_down(d, call->args[1], 1);
    case SCHEDOP_shutdown_code:
        return shut_down(d, call->args[1], 0);
    case SCHEDOP_poll:
        return poll(d, call->args[1]);
    default:
        return -XEN_ENOSYS;
    }
}
