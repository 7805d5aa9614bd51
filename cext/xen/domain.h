/* One paravirtual domain with Xen's ABI: its state, ending it, and limiting the work of one hypercall. */
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
enum { CHANNELS_AT_ONCE = 64 }; /* ports are created in batches of this size (Xen: EVTCHNS_PER_BUCKET) */

/* An instruction of the kernel that writes to a page table, while it is being executed (ptwr.c). */
struct page_write {
    uint64_t *entry;      /* the level 1 entry that maps the table, now writable; NULL: no such instruction */
    uint64_t address, table;
    uint64_t registers[16], rip, rflags, dr6; /* before it */
    uint32_t error;
};

/* The exception that an emulated instruction has raised, until traps.c delivers it. */
struct emulated_fault {
    uint8_t due;
    uint32_t vector, error;
    uint64_t cr2;
};

/* How often the kernel accessed a model-specific register. */
struct msr_count {
    uint32_t number;
    uint64_t count;
};
enum { ANSWERED_MSRS = 32 }; /* there are fewer (emulate.c) */

#define SHUTDOWN_CODE_NONE UINT32_MAX
enum domain_state { DOMAIN_RUNNING, DOMAIN_SHUT_DOWN, DOMAIN_CRASHED };

/* The hypercalls that have sub-operations, and up to which number these are tallied one by one. */
enum { DIVIDED_HYPERCALLS = 10, SUB_OPERATIONS = 32 };

struct domain {
    Cpu *cpu;
    /* What every hypercall looks at. */
    struct hvmx_hypercall call;     /* the one in progress */
    uint8_t in_kernel;              /* kernel or user mode, both at ring 3 */
    union {
        struct { uint8_t preempted, nmi_pending; };
        uint16_t attention;         /* there is more to do after it than usual */
    };
    uint32_t dropping_count;        /* of `dropping` */
    uint64_t work;                  /* done by it, in page-table entries and list elements: beyond a limit it is preempted */
    struct vcpu_info *vcpu_info;    /* host address, in a frame of the domain's RAM that keeps the type "writable" */
    struct hypercall_table table;

    /* the virtual processor */
    uint8_t syscall_masks_events, sysenter_masks_events;
    uint8_t in_nmi;
    uint8_t iopl;                   /* virtual: 0..3 */
    uint64_t kernel_sp;
    uint64_t event_callback, syscall_callback, sysenter_callback;
    struct trap_info traps[256];
    uint64_t kernel_table, user_table;  /* frames of the two L4 tables; user_table 0: none */
    uint64_t vm_assist;
    uint64_t io_bitmap;             /* guest address; io_ports 0: none */
    uint32_t io_ports;
    uint64_t vcpu_info_frame;       /* 0: still within shared_info */

    /* memory */
    struct frame *frames;
    uint64_t frame_count;           /* pages of RAM; frame numbers are below this */
    uint64_t reserved;              /* the frames from here on are the hypervisor's own */
    uint64_t nr_pages, max_pages;   /* the domain's reservation */
    uint32_t first_free;            /* released by the domain, linked by frame.refs; 0: none */
    uint16_t flush_clock;           /* counts full flushes of the TLB, modulo 512; a wrap costs one flush too many at most */
    uint64_t *m2p;
    uint64_t shared_info_frame, grant_frame, m2p_frame, m2p_frames;
    uint64_t m2p_l3, descriptor_l3; /* the hypervisor's L3 tables, which every L4 points to */
    uint64_t *descriptor_l1;        /* maps GDT, then LDT */
    uint64_t no_descriptors;        /* a frame of zeros, mapped where the guest's GDT has no page */
    uint64_t gdt[FIRST_RESERVED_GDT_PAGE], ldt[LDT_PAGES];  /* frames; 0: none */
    uint64_t ldt_base, ldt_entries;
    uint32_t grant_frames;          /* given out by setup_table */
    struct shared_info *shared_info;

    uint64_t work_limit;
    uint64_t units_within;          /* what the calls of a multicall have taken, which are tallied for themselves */
    uint32_t command;               /* of the last element of mmuext_op's list, or all ones */
    /* Tables that nobody uses any more, but that still hold references: these are dropped before anything else is done. After
     * an error there may be one of each level, and two more that the one of level 4 has held. */
    uint64_t dropping[5];
    uint32_t update_cost, entry_cost; /* cost of a list element and of a validated entry, in 1/CYCLE_FRACTION cycles */

    struct emulated_fault emulated_fault;
    struct msr_count msrs[ANSWERED_MSRS]; /* accesses of each that was answered; number 0: none */
    uint64_t refused_instructions;  /* of the guest's kernel: not emulated, it got the #GP */
    struct page_write page_write;
    uint64_t page_before[512];      /* its table before the instruction */

    /* events */
    struct channel channels[EVTCHN_2L_NR_CHANNELS];
    uint32_t ports;                 /* how many exist */
    uint32_t virq_port[NR_VIRQS];
    uint32_t console_port, store_port;
    uint8_t polling;                /* halted in SCHEDOP_poll */
    uint32_t poll_port;             /* the one polled port; 0: any */

    /* time: guest cycles are the TSC */
    uint64_t frequency;             /* guest cycles a second */
    uint32_t time_mul;              /* nanoseconds = ((cycles << time_shift) * time_mul) >> 32 */
    int8_t time_shift;
    uint64_t singleshot, poll_timeout;  /* nanoseconds of system time, or NEVER */
    uint64_t period, period_last;
    struct vcpu_runstate_info runstate;
    uint64_t runstate_area;         /* guest address; 0: none */
    int (*platform_on_deadline)(Cpu *); /* what Cpu.on_deadline was before */

    uint32_t flags;                 /* SIF_* */
    uint64_t console_frame;         /* of the console ring of a domU; 0: none */
    uint8_t console_in[4096];       /* input that the guest has not read yet */
    uint32_t console_in_count;
    int (*console)(void *owner, const char *text, uint32_t size); /* 1: it raised, and the run ends */
    void *owner;

    struct call_tally sub_operations[DIVIDED_HYPERCALLS][SUB_OPERATIONS + 1];

    /* the end */
    uint8_t state;                  /* DOMAIN_* */
    uint32_t shutdown_code;         /* SHUTDOWN_* or any other code that the guest gave, or SHUTDOWN_CODE_NONE */
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

/* The domain's own number; there is no other domain. */
static inline uint16_t own_domid(const struct domain *d)
{
    return d->flags & SIF_INITDOMAIN ? 0 : 1;
}

/* Whether `domid` names the calling domain (Xen: rcu_lock_domain_by_any_id). */
static inline int is_own(const struct domain *d, uint16_t domid)
{
    return domid == DOMID_SELF || domid == own_domid(d);
}

void xen_stop(struct domain *d, enum domain_state state);
void domain_crash(struct domain *d, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A call is preempted after so many list elements and validated entries: it is resumed as a new call, and the run loop checks
 * limits and interrupts in between. Work is counted, not time, so that preemption is deterministic. Going through a whole page
 * is the work of PAGE_WORK entries. */
enum { WORK_LIMIT = 1 << 16, PAGE_WORK = 64 };
/* To be called after each element of a list: charges it. 1: the call has done enough and is to be preempted. */
int preempt_after(struct domain *d);

#endif
