/* Ports of event channels, by the two-level ABI and for one virtual processor. */
#include "ports.h"

#include "clock.h"

static int test_and_set(uint64_t *words, uint32_t bit)
{
    uint64_t mask = 1ull << (bit & 63);
    int was = !!(words[bit >> 6] & mask);
    words[bit >> 6] |= mask;
    return was;
}

static int is_set(const uint64_t *words, uint32_t bit)
{
    return words[bit >> 6] >> (bit & 63) & 1;
}

static void mark(struct domain *d, uint32_t port)
{
    uint64_t word = 1ull << (port >> 6);
    if (d->vcpu_info->evtchn_pending_sel & word)
        return;
    d->vcpu_info->evtchn_pending_sel |= word;
    d->vcpu_info->evtchn_upcall_pending = 1;
    d->cpu->pending |= PEND_EVENT;
    wake(d);
}

void raise_port(struct domain *d, uint32_t port)
{
    if (test_and_set(d->shared_info->evtchn_pending, port))
        return;
    if (!is_set(d->shared_info->evtchn_mask, port))
        mark(d, port);
    if (d->polling && (d->poll_port == 0 || d->poll_port == port))
        wake(d);
}

void raise_virq(struct domain *d, uint32_t virq)
{
    if (d->virq_port[virq])
        raise_port(d, d->virq_port[virq]);
}

int64_t unmask_port(struct domain *d, uint32_t port)
{
    if (port >= d->ports)
        return -XEN_EINVAL;
    d->shared_info->evtchn_mask[port >> 6] &= ~(1ull << (port & 63));
    if (is_set(d->shared_info->evtchn_pending, port))
        mark(d, port);
    return 0;
}

/* A free port, or 0 if there is none (port 0 is never used). */
uint32_t free_port(struct domain *d)
{
    for (uint32_t port = 1; port < EVTCHN_2L_NR_CHANNELS; port++)
        if (d->channels[port].use == CHANNEL_FREE) {
            if (port >= d->ports)
                d->ports += CHANNELS_AT_ONCE;
            return port;
        }
    return 0;
}

uint32_t host_port(struct domain *d)
{
    uint32_t port = free_port(d);
    d->channels[port] = (struct channel){ .use = CHANNEL_HOST };
    return port;
}
