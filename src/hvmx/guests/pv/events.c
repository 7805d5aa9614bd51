#include "events.h"

#include "../common/env.h"
#include "../common/panic.h"
#include "../common/trap.h"
#include "hypercall.h"
#include "machine.h"

#define TICK_NANOSECONDS 100000
#define WORD_BITS        64
#define EVENT_WORDS      (sizeof shared_info->mask / sizeof shared_info->mask[0])

static uint32_t timer_port;
static bool ticking;

void events_init(void)
{
    struct xen_bind_virq bind = {.virq = XEN_VIRQ_TIMER, .vcpu = 0};
    if (hypercall2(XEN_EVENT_CHANNEL_OP, XEN_EVENT_BIND_VIRQ, (uintptr_t)&bind) < 0)
        panic("no event channel for the timer");
    for (unsigned word = 0; word < EVENT_WORDS; word++) /* Xen starts with all unmasked, including the console's */
        shared_info->mask[word] = ~0ul;
    timer_port = bind.port;
    shared_info->mask[timer_port / WORD_BITS] &= ~(1ul << timer_port % WORD_BITS);
    /* Xen starts a domain with a periodic timer, which is not used here. */
    hypercall3(XEN_VCPU_OP, XEN_VCPU_STOP_PERIODIC, 0, 0);
}

/* System time in nanoseconds: from the TSC and the rate that Xen publishes, without a hypercall. */
uint64_t env_read_timer(void)
{
    const volatile struct xen_vcpu_time *time = &shared_info->vcpus[0].time;
    uint32_t version;
    uint64_t nanoseconds;
    do {
        version = time->version;
        barrier();
        uint64_t delta = rdtsc() - time->tsc;
        delta = time->shift < 0 ? delta >> -time->shift : delta << time->shift;
        nanoseconds = time->nanoseconds + (uint64_t)((unsigned __int128)delta * time->multiplier >> 32);
        barrier();
    } while (version % 2 || version != time->version);
    return nanoseconds;
}

static void set_timer(void)
{
    struct xen_singleshot_timer timer = {.at_nanoseconds = env_read_timer() + TICK_NANOSECONDS};
    if (hypercall3(XEN_VCPU_OP, XEN_VCPU_SET_SINGLESHOT, 0, (uintptr_t)&timer) < 0)
        panic("the timer cannot be set");
}

void env_start_ticks(void)
{
    ticking = true;
    set_timer();
}

void env_stop_ticks(void)
{
    ticking = false;
    hypercall3(XEN_VCPU_OP, XEN_VCPU_STOP_SINGLESHOT, 0, 0);
}

void env_interrupts(bool enabled)
{
    volatile struct xen_vcpu_info *vcpu = &shared_info->vcpus[0];
    vcpu->upcall_mask = !enabled;
    barrier();
    /* Events that came while masked are delivered at the end of any hypercall. */
    if (enabled && vcpu->upcall_pending)
        hypercall2(XEN_VERSION, 0, 0);
}

static unsigned long take(volatile unsigned long *word)
{
    unsigned long bits = 0;
    asm volatile("xchg %0, %1" : "+r"(bits), "+m"(*word)::"memory");
    return bits;
}

void env_interrupt(uintptr_t vector)
{
    (void)vector; /* there is only one upcall */
    shared_info->vcpus[0].upcall_pending = 0;
    unsigned long words = take(&shared_info->vcpus[0].pending_selector);
    for (; words; words &= words - 1) {
        unsigned word = __builtin_ctzl(words);
        unsigned long ports = take(&shared_info->pending[word]) & ~shared_info->mask[word];
        if (ports && (word != timer_port / WORD_BITS || ports != 1ul << timer_port % WORD_BITS))
            panic("an event of a channel that is not bound");
        if (ports && ticking) {
            timer_tick();
            set_timer();
        }
    }
}
