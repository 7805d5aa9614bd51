/* event_channel_op: binding, closing and sending. */
#include "events.h"

#include "console.h"
#include "ports.h"

/* Global VIRQs are bound at processor 0 and may be moved; the others belong to one processor. */
static int virq_is_global(uint32_t virq)
{
    return virq != VIRQ_TIMER && virq != VIRQ_DEBUG && virq != VIRQ_XENOPROF && virq <= VIRQ_ARCH_0; /* VIRQ_ARCH_0 is VIRQ_MCA */
}

static uint16_t domid_or_own(const struct domain *d, uint16_t domid)
{
    return domid == DOMID_SELF ? own_domid(d) : domid;
}

static struct channel *channel_at(struct domain *d, uint32_t port)
{
    if (port == 0 || port >= EVTCHN_2L_NR_CHANNELS || d->channels[port].use == CHANNEL_FREE)
        return NULL;
    return &d->channels[port];
}

static int64_t bind_virq(struct domain *d, struct evtchn_bind_virq *bind)
{
    if (bind->virq >= NR_VIRQS)
        return -XEN_EINVAL;
    if (bind->vcpu)
        return virq_is_global(bind->virq) ? -XEN_EINVAL : -XEN_ENOENT;
    if (d->virq_port[bind->virq])
        return -XEN_EEXIST;
    bind->port = free_port(d);
    if (bind->port == 0)
        return -XEN_ENOSPC;
    d->channels[bind->port] = (struct channel){ .use = CHANNEL_VIRQ, .virq = (uint16_t)bind->virq };
    d->virq_port[bind->virq] = bind->port;
    return 0;
}

static int64_t bind_ipi(struct domain *d, struct evtchn_bind_ipi *bind)
{
    if (bind->vcpu)
        return -XEN_ENOENT;
    bind->port = free_port(d);
    if (bind->port == 0)
        return -XEN_ENOSPC;
    d->channels[bind->port] = (struct channel){ .use = CHANNEL_IPI };
    return 0;
}

static int64_t alloc_unbound(struct domain *d, struct evtchn_alloc_unbound *alloc)
{
    if (!is_own(d, alloc->dom))
        return -XEN_ESRCH;
    alloc->port = free_port(d);
    if (alloc->port == 0)
        return -XEN_ENOSPC;
    d->channels[alloc->port] = (struct channel){ .use = CHANNEL_UNBOUND, .remote = domid_or_own(d, alloc->remote_dom) };
    return 0;
}

/* Between two ports of this domain: there is no other domain. */
static int64_t bind_interdomain(struct domain *d, struct evtchn_bind_interdomain *bind)
{
    if (!is_own(d, bind->remote_dom))
        return -XEN_ESRCH;
    struct channel *remote = channel_at(d, bind->remote_port);
    if (remote == NULL || remote->use != CHANNEL_UNBOUND || remote->remote != own_domid(d))
        return -XEN_EINVAL;
    bind->local_port = free_port(d);
    if (bind->local_port == 0)
        return -XEN_ENOSPC;
    *remote = (struct channel){ .use = CHANNEL_LOOP, .peer = bind->local_port };
    d->channels[bind->local_port] = (struct channel){ .use = CHANNEL_LOOP, .peer = bind->remote_port };
    raise_port(d, bind->local_port); /* an event sent before the binding would be lost */
    return 0;
}

static int64_t close_port(struct domain *d, uint32_t port)
{
    struct channel *channel = channel_at(d, port);
    if (channel == NULL)
        return -XEN_EINVAL;
    if (channel->use == CHANNEL_VIRQ)
        d->virq_port[channel->virq] = 0;
    if (channel->use == CHANNEL_LOOP && channel->peer != port)
        d->channels[channel->peer] = (struct channel){ .use = CHANNEL_UNBOUND, .remote = own_domid(d) };
    if (port == d->console_port)
        d->console_port = 0;
    if (port == d->store_port)
        d->store_port = 0;
    *channel = (struct channel){ .use = CHANNEL_FREE };
    d->shared_info->evtchn_pending[port >> 6] &= ~(1ull << (port & 63));
    return 0;
}

static int64_t send(struct domain *d, uint32_t port)
{
    struct channel *channel = channel_at(d, port);
    if (channel == NULL)
        return -XEN_EINVAL;
    switch (channel->use) {
    case CHANNEL_LOOP:
        raise_port(d, channel->peer);
        return 0;
    case CHANNEL_IPI:
        raise_port(d, port);
        return 0;
    case CHANNEL_HOST:
        if (port == d->console_port)
            console_ring(d);
        return 0;
    case CHANNEL_UNBOUND:
        return 0;
    default:
        return -XEN_EINVAL;
    }
}

static int64_t status(struct domain *d, struct evtchn_status *out)
{
    if (!is_own(d, out->dom))
        return -XEN_ESRCH;
    if (out->port >= d->ports)
        return -XEN_EINVAL;
    const struct channel *channel = &d->channels[out->port];
    out->vcpu = 0;
    switch (channel->use) {
    case CHANNEL_FREE:
        out->status = EVTCHNSTAT_closed;
        return 0;
    case CHANNEL_UNBOUND:
        out->status = EVTCHNSTAT_unbound;
        out->u.unbound.dom = channel->remote;
        return 0;
    case CHANNEL_VIRQ:
        out->status = EVTCHNSTAT_virq;
        out->u.virq = channel->virq;
        return 0;
    case CHANNEL_IPI:
        out->status = EVTCHNSTAT_ipi;
        return 0;
    default:
        out->status = EVTCHNSTAT_interdomain;
        out->u.interdomain.dom = channel->use == CHANNEL_HOST ? 0 : own_domid(d);
        out->u.interdomain.port = channel->peer;
        return 0;
    }
}

static int64_t bind_vcpu(struct domain *d, const struct evtchn_bind_vcpu *bind)
{
    struct channel *channel = channel_at(d, bind->port);
    if (bind->vcpu)
        return -XEN_ENOENT;
    return channel == NULL || channel->use == CHANNEL_IPI || (channel->use == CHANNEL_VIRQ && !virq_is_global(channel->virq))
               ? -XEN_EINVAL : 0;
}

static int64_t reset(struct domain *d)
{
    for (uint32_t port = 1; port < EVTCHN_2L_NR_CHANNELS; port++)
        close_port(d, port);
    return 0;
}

/* event_channel_op(command, *argument) */
int64_t xen_event_channel_op(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    union {
        struct evtchn_alloc_unbound alloc_unbound;
        struct evtchn_bind_interdomain bind_interdomain;
        struct evtchn_bind_virq bind_virq;
        struct evtchn_bind_ipi bind_ipi;
        struct evtchn_bind_vcpu bind_vcpu;
        struct evtchn_status status;
        struct evtchn_port port;
        uint16_t reset;
    } arg;
    static const uint8_t sizes[] = {
        [EVTCHNOP_bind_interdomain] = sizeof arg.bind_interdomain, [EVTCHNOP_bind_virq] = sizeof arg.bind_virq,
        [EVTCHNOP_close] = sizeof arg.port, [EVTCHNOP_send] = sizeof arg.port, [EVTCHNOP_status] = sizeof arg.status,
        [EVTCHNOP_alloc_unbound] = sizeof arg.alloc_unbound, [EVTCHNOP_bind_ipi] = sizeof arg.bind_ipi,
        [EVTCHNOP_bind_vcpu] = sizeof arg.bind_vcpu, [EVTCHNOP_unmask] = sizeof arg.port,
        [EVTCHNOP_reset] = sizeof arg.reset };
    uint32_t command = arg32(call, 0);
    if (command >= sizeof sizes || sizes[command] == 0)
        return -XEN_ENOSYS;
    if (guest_read(d->cpu, &arg, call->args[1], sizes[command]))
        return -XEN_EFAULT;
    int64_t result;
    switch (command) {
    case EVTCHNOP_close:
        return close_port(d, arg.port.port);
    case EVTCHNOP_send:
        return send(d, arg.port.port);
    case EVTCHNOP_unmask:
        return unmask_port(d, arg.port.port);
    case EVTCHNOP_bind_vcpu:
        return bind_vcpu(d, &arg.bind_vcpu);
    case EVTCHNOP_reset:
        return is_own(d, arg.reset) ? reset(d) : -XEN_ESRCH;
    case EVTCHNOP_bind_interdomain:
        result = bind_interdomain(d, &arg.bind_interdomain);
        break;
    case EVTCHNOP_bind_virq:
        result = bind_virq(d, &arg.bind_virq);
        break;
    case EVTCHNOP_bind_ipi:
        result = bind_ipi(d, &arg.bind_ipi);
        break;
    case EVTCHNOP_alloc_unbound:
        result = alloc_unbound(d, &arg.alloc_unbound);
        break;
    default:
        result = status(d, &arg.status);
        break;
    }
    if (result == 0 && guest_write(d->cpu, call->args[1], &arg, sizes[command]))
        return -XEN_EFAULT;
    return result;
}
