/* The two consoles of a domain: console_io, and the ring that a domU shares with its host. */
#include "console.h"

#include "ports.h"

#include <string.h>

static int64_t write_text(struct domain *d, struct hvmx_hypercall *call)
{
    uint8_t written = 0;
    while (call->args[1]) {
        char text[512];
        uint32_t size = call->args[1] < sizeof text ? (uint32_t)call->args[1] : (uint32_t)sizeof text;
        if (guest_read(d->cpu, text, call->args[2], size))
            return -XEN_EFAULT;
        if (d->console(d->owner, text, size)) { /* it raised: the rest is written when the guest runs on */
            d->cpu->fault = FAULT_ABORT;
            d->preempted = written;
            break;
        }
        written = 1;
        call->args[1] -= size;
        call->args[2] += size;
        d->work += size;
        if (preempt_after(d) && call->args[1]) {
            d->preempted = 1;
            break;
        }
    }
    return 0;
}

static int64_t read_text(struct domain *d, uint64_t size, uint64_t pointer)
{
    if (size > d->console_in_count)
        size = d->console_in_count;
    if (guest_write(d->cpu, pointer, d->console_in, size))
        return -XEN_EFAULT;
    d->console_in_count -= (uint32_t)size;
    memmove(d->console_in, d->console_in + size, d->console_in_count);
    return (int64_t)size;
}

/* console_io(command, size, *text) */
int64_t xen_console_io(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    call->args[1] = arg32(call, 1);
    switch (arg32(call, 0)) {
    case CONSOLEIO_write:
        return write_text(d, call);
    case CONSOLEIO_read:
        return read_text(d, call->args[1], call->args[2]);
    default:
        return -XEN_ENOSYS;
    }
}

/* Empties the ring's output, and fills its input. The guest may write anything into the ring: indices are taken modulo its
 * size, and each copy is bounded. */
void console_ring(struct domain *d)
{
    struct xencons_interface *ring;
    char text[sizeof ring->out];
    uint32_t size = 0, moved = 0;
    if (d->console_frame == 0)
        return;
    ring = frame_memory(d, d->console_frame);
    uint32_t end = ring->out_prod;
    for (; ring->out_cons != end && size < sizeof text; ring->out_cons++)
        text[size++] = ring->out[ring->out_cons % sizeof ring->out];
    while (moved < d->console_in_count && ring->in_prod - ring->in_cons < sizeof ring->in)
        ring->in[ring->in_prod++ % sizeof ring->in] = (char)d->console_in[moved++];
    d->console_in_count -= moved;
    memmove(d->console_in, d->console_in + moved, d->console_in_count);
    if (size && d->console(d->owner, text, size))
        d->cpu->pending |= PEND_BUDGET; /* it raised: the run ends, though the text has left the ring */
    if ((size || moved) && d->console_port)
        raise_port(d, d->console_port);
}

uint32_t xen_console_room(const struct domain *d)
{
    return (uint32_t)sizeof d->console_in - d->console_in_count;
}

/* Adds console input; how much of it there was room for. */
uint32_t xen_console_input(struct domain *d, const uint8_t *text, uint32_t size)
{
    uint32_t room = xen_console_room(d);
    if (size > room)
        size = room;
    memcpy(d->console_in + d->console_in_count, text, size);
    d->console_in_count += size;
    console_ring(d);
    if (d->console_in_count)
        raise_virq(d, VIRQ_CONSOLE);
    return size;
}
