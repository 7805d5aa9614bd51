/* The console: Xen's own in the initial domain, else the ring from the toolstack, if there is one. */
#include "console.h"

#include "../common/env.h"
#include "hypercall.h"
#include "machine.h"

static char ring_window[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static volatile struct xen_console_ring *ring;

void console_init(void)
{
    if ((start_info->flags & XEN_START_INITIAL_DOMAIN) || !start_info->console_frame)
        return;
    map_machine_frame(ring_window, start_info->console_frame);
    ring = (volatile struct xen_console_ring *)ring_window;
}

static void write_ring(const char *text, size_t length)
{
    uint32_t port = start_info->console_channel;
    while (length) {
        uint32_t producer = ring->out_producer;
        while (length && producer - ring->out_consumer < sizeof ring->out) {
            ring->out[producer++ % sizeof ring->out] = *text++;
            length--;
        }
        barrier();
        ring->out_producer = producer;
        hypercall2(XEN_EVENT_CHANNEL_OP, XEN_EVENT_SEND, (uintptr_t)&port);
        if (length)
            hypercall2(XEN_SCHED_OP, XEN_SCHED_YIELD, 0);
    }
}

void env_write(const char *text, size_t length)
{
    if (ring)
        write_ring(text, length);
    else
        hypercall3(XEN_CONSOLE_IO, XEN_CONSOLE_WRITE, length, (uintptr_t)text);
}
