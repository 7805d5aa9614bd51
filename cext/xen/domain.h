/* One paravirtual domain with Xen's ABI: its state, what ends it, and how much work one call may do. */
#ifndef HVMX_XEN_DOMAIN_H
#define HVMX_XEN_DOMAIN_H

#include "addresses.h"
#include "table.h"
#include "xen_abi.h"

enum channel_use { CHANNEL_FREE, CHANNEL_UNBOUND, CHANNEL_LOOP, CHANNEL_VIRQ, CHANNEL_IPI, CHANNEL_HOST };
struct channel {
    uint8_t use;
    union {
        uint16_t virq;    /* CHANNEL_VIRQ */
        uint16_t remote;  /* CHANNEL_UNBOUND: the domain that may bind to it */
    };
    uint32_t peer;        /* CHANNEL_LOOP: the port at the other end, in the same domain */
};
enum { CHANNELS_AT_ONCE = 64 }; /* ports come to be by so many (Xen: EVTCHNS_PER_BUCKET) */

/* An instruction of the kernel's that writes to a page table, while it is executed. */
struct page_write {
    uint64_t *entry;      /* maps the page, now writable; NULL: there is no such instruction */
    uint64_t address, table;
    uint64_t registers[16], rip, rflags, dr6; /* before it */
    uint32_t error;
};

/* The exception that an emulated instruction ends in, until it is delivered. */
struct emulated_fault {
    uint8_t due;
    uint32_t vector, error;
    uint64_t cr2;
};

#define SHUTDOWN_CODE_NONE UINT32_MAX
enum domain_state { DOMAIN_RUNNING, DOMAIN_SHUT_DOWN, DOMAIN_CRASHED };

struct domain {
    Cpu *cpu;
    struct hypercall_table table;
    struct hvmx_hypercall call;     /* of the hypercall that is running */

    /* the virtual processor */
    uint8_t in_kernel;              /* which of the two modes at ring 3 */
    uint8_t syscall_masks_events, sysenter_masks_events;
    uint8_t nmi_pending, in_nmi;
    uint8_t iopl;                   /* virtual: 0..3 */
    uint64_t kernel_sp;
    uint64_t event_callback, syscall_callback, sysenter_callback;
    struct trap_info traps[256];
    uint64_t kernel_table, user_table;  /* frames of the two L4 tables; user_table 0: none */
    uint64_t vm_assist;
    uint64_t io_bitmap;             /* guest address; io_ports 0: none */
    uint32_t io_ports;
    struct vcpu_info *vcpu_info;    /* host address in the domain's RAM, in a frame that is held writable */
    uint64_t vcpu_info_frame;       /* 0: still within shared_info */

    /* memory */
    struct frame *frames;
    uint64_t frame_count;           /* pages of RAM; frame numbers are below this */
    uint64_t reserved;              /* first frame of the hypervisor's own, which reach to the end */
    uint64_t nr_pages, max_pages;   /* the domain's reservation */
    uint32_t first_free;            /* released by the domain, linked by frame.refs; 0: none */
    uint16_t flush_clock;           /* counts full flushes of the TLB, modulo 512; one too many is made, at most */
    uint64_t *m2p;
    uint64_t shared_info_frame, grant_frame, m2p_frame, m2p_frames;
    uint64_t m2p_l3, descriptor_l3; /* the hypervisor's tables that every L4 is given */
    uint64_t *descriptor_l1;        /* maps GDT, then LDT */
    uint64_t no_descriptors;        /* a frame of zeros, in the place of pages that the guest's GDT has not */
    uint64_t gdt[FIRST_RESERVED_GDT_PAGE], ldt[LDT_PAGES];  /* frames; 0: none */
    uint64_t ldt_base, ldt_entries;
    uint32_t grant_frames;          /* given out by setup_table */
    struct shared_info *shared_info;

    /* work within one hypercall, in page-table entries and list elements; beyond a limit it is preempted */
    uint64_t work;
    uint8_t preempted;
    uint32_t update_cost, entry_cost; /* of an element of a list, of an entry validated: 1/CYCLE_FRACTION cycles */

    struct emulated_fault emulated_fault;
    struct page_write page_write;
    uint64_t page_before[512];      /* the table, before the instruction */

    /* events */
    struct channel channels[EVTCHN_2L_NR_CHANNELS];
    uint32_t ports;                 /* those below this exist */
    uint32_t virq_port[NR_VIRQS];
    uint32_t console_port, store_port;
    uint8_t polling;                /* halted in SCHEDOP_poll */
    uint32_t poll_port;             /* the one polled port; 0: any */

    /* time: guest cycles are the TSC */
    uint64_t frequency;             /* guest cycles a second */
    uint32_t time_mul;              /* nanoseconds = ((cycles << time_shift) * time_mul) >> 32 */
    int8_t time_shift;
    uint64_t singleshot, poll_timeout;  /* nanoseconds of system time; NEVER */
    uint64_t period, period_last;
    struct vcpu_runstate_info runstate;
    uint64_t runstate_area;         /* guest address; 0: none */
    int (*board_on_deadline)(Cpu *); /* of the machine's devices, and the cycle of the next of them */
    uint64_t board_deadline;

    uint32_t flags;                 /* SIF_* */
    uint64_t console_frame;         /* of the console ring of a domU; 0: none */
    uint8_t console_in[4096];       /* waits for CONSOLEIO_read or the ring */
    uint32_t console_in_count;
    int (*console)(void *owner, const char *text, uint32_t size); /* 1: it raised, and the run ends */
    void *owner;

    /* the end */
    uint8_t state;                  /* DOMAIN_* */
    uint32_t shutdown_code;         /* SHUTDOWN_*, or what else the guest gave; SHUTDOWN_CODE_NONE */
    char crash_reason[256];
};

static inline struct domain *domain_of(const struct hvmx_hypercall *call)
{
    return ((Cpu *)call->vcpu)->pv;
}

/* An argument of Xen's type int or unsigned int. */
static inline uint32_t arg32(const struct hvmx_hypercall *call, int index)
{
    return (uint32_t)call->args[index];
}

static inline void *frame_memory(const struct domain *d, uint64_t frame)
{
    return d->cpu->ram + (frame << 12);
}

/* The domain's own number: there is no other domain. */
static inline uint16_t own_domid(const struct domain *d)
{
    return d->flags & SIF_INITDOMAIN ? 0 : 1;
}

/* Whether a call for the domain `domid` is for the caller (Xen: rcu_lock_domain_by_any_id). */
static inline int is_own(const struct domain *d, uint16_t domid)
{
    return domid == DOMID_SELF || domid == own_domid(d);
}

void xen_stop(struct domain *d, enum domain_state state);
void domain_crash(struct domain *d, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* One element of a list is done: charges it, and says whether the rest must wait. */
int preempt_after(struct domain *d);

#endif
