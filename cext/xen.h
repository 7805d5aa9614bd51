/* One paravirtual domain with Xen's ABI: its state, and what the files of this folder ask of each other. */
#ifndef HVMX_XEN_H
#define HVMX_XEN_H

#include "table.h"
#include "xen_abi.h"

/* --- frames: who owns each page of memory, and what it is used as --------------------------------------------------- */
/* FRAME_PARTIAL: on its way to become, or to be no longer, a table of a level from 2 on. Nobody holds it as such: it keeps
 * itself by one of its references. */
enum frame_type { FRAME_NONE, FRAME_L1, FRAME_L2, FRAME_L3, FRAME_L4, FRAME_SEGDESC, FRAME_WRITABLE, FRAME_PARTIAL };
enum frame_owner { OWNER_DOMAIN, OWNER_XEN, OWNER_NOBODY };

/* All zero: the domain's own, in no other use. So the table of frames costs its host what the domain makes use of. */
struct frame {
    uint64_t refs : 24;       /* 1 for each mapping and each use as `type`, FRAME_MAX at most; OWNER_NOBODY: the next free
                               * frame, 0: it is the last */
    uint64_t type_refs : 24;  /* uses as `type`, each with one of `refs`; another type is possible only at 0. FRAME_PARTIAL:
                               * PARTIAL(level, how many entries, from the first on, hold references) */
    uint64_t flush_clock : 9; /* domain.flush_clock when type_refs fell to 0 */
    uint64_t type : 3, owner : 2;
    uint64_t pinned : 1;      /* the guest holds one of the type_refs by MMUEXT_PIN */
    uint64_t released : 1;    /* the domain does not hold it by its reservation (any more) */
};
#define FRAME_MAX 0xffffffu   /* of references, and of frames: 64 GiB of memory */
#define PARTIAL(level, held) ((uint32_t)(level) << 10 | (held))
#define PARTIAL_LEVEL(frame) ((enum frame_type)((frame)->type_refs >> 10))
#define PARTIAL_HELD(frame) ((uint32_t)(frame)->type_refs & 1023)

enum { PTE_P = 1, PTE_RW = 2, PTE_US = 4, PTE_PWT = 8, PTE_PCD = 0x10, PTE_A = 0x20, PTE_D = 0x40, PTE_PSE = 0x80,
       PTE_G = 0x100 };
#define PTE_NX (1ull << 63)
#define PTE_FRAME 0x000ffffffffff000ull
#define INVALID_M2P_ENTRY (~0ull)

/* The parts of the hypervisor's range of addresses (L4 slots 256-271) that are in use. */
enum { L4_SLOT_XEN_FIRST = 256, L4_SLOT_M2P = 256, L4_SLOT_DESCRIPTORS = 260, L4_SLOT_XEN_END = 272 };
#define GDT_VIRT_START 0xffff820000000000ull
#define LDT_VIRT_START (GDT_VIRT_START + 16 * 0x1000)
enum { GDT_PAGES = 16, LDT_PAGES = 16, LDT_ENTRIES = 8192, GRANT_FRAMES = 32 };

/* --- events --------------------------------------------------------------------------------------------------------- */
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

#define SHUTDOWN_CODE_NONE UINT32_MAX
/* An instruction of the kernel's that writes to a page table, while it is executed. */
struct page_write {
    uint64_t *entry;      /* maps the page, now writable; NULL: there is no such instruction */
    uint64_t address, table;
    uint64_t registers[16], rip, rflags, dr6; /* before it */
    uint32_t error;
};

enum domain_state { DOMAIN_RUNNING, DOMAIN_SHUT_DOWN, DOMAIN_CRASHED };

#define NEVER (~0ull)
#define XEN_VERSION (4 << 16 | 17)  /* major and minor of the Xen whose ABI this is */

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
    uint64_t work, work_limit;
    uint8_t preempted;
    /* Tables that nobody uses any more, but that still hold references: these are given back before anything else is done.
     * After an error there may be one of each level, and two more that the one of level 4 has held. */
    uint32_t dropping_count;
    uint64_t dropping[5];
    uint32_t update_cost, entry_cost; /* of an element of a list, of an entry validated: 1/CYCLE_FRACTION cycles */

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

enum { EXIT_CPUID = 10, EXIT_CR_ACCESS = 28, EXIT_IO = 30 }; /* basic exit reasons: SDM vol. 3, appendix C */

/* All that is emulated for a PV guest is of one price. */
static inline void charge_emulation(Cpu *cpu)
{
    charge_fraction(cpu, cpu->exit_cost[EXIT_CR_ACCESS]);
}

static inline void *frame_memory(const struct domain *d, uint64_t frame)
{
    return d->cpu->ram + (frame << 12);
}

/* xen_domain.c */
struct domain_config {
    uint64_t frequency, epoch;      /* guest cycles a second; seconds since 1970 at cycle 0 */
    uint32_t flags;                 /* SIF_PRIVILEGED | SIF_INITDOMAIN for a dom0 */
    uint32_t update_cost, entry_cost; /* as in struct domain */
    int (*console)(void *owner, const char *text, uint32_t size); /* 1: it raised, and the run ends */
    void *owner;
};
/* What the hypervisor needs of memory is taken from its end; the rest is the domain's: page `pfn` of it is frame
 * `reserved - 1 - pfn`. The order is reversed so that a guest that mixes the two up is found out. NULL: no memory. */
struct domain *xen_create(Cpu *cpu, const struct domain_config *config);
void xen_destroy(struct domain *d);

/* The start of day, as start_of_day.py has laid it out. */
struct domain_start {
    uint64_t l4;                    /* frame of the page tables, which are then validated, pinned and loaded */
    uint64_t entry, stack, start_info;
    uint64_t console_frame;         /* of the console ring; 0: none */
};
int xen_start(struct domain *d, const struct domain_start *start);
void xen_stop(struct domain *d, enum domain_state state);
void domain_crash(struct domain *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Elements and validated entries of one call, beyond which it is preempted (it then goes on as a new call, and the run
 * loop sees limits and interrupts in between). Counted in work, not in time, so that it falls at the same place always.
 * Going through a whole page is the work of PAGE_WORK entries. */
enum { WORK_LIMIT = 1 << 16, PAGE_WORK = 64 };

/* xen_frames.c: functions that return int give 0 or a negative XEN_E*, or that the limit of work is reached and the same
 * call goes on from there */
enum { UNFINISHED = 1 };
struct frame *get_frame(struct domain *d, uint64_t mfn);
void put_frame(struct domain *d, uint64_t mfn);
int get_frame_and_type(struct domain *d, uint64_t mfn, enum frame_type type);
void put_frame_and_type(struct domain *d, uint64_t mfn);
/* Gives back what the tables in `dropping` hold. Some are left only where work is beyond the limit, which preempt_after()
 * says. */
void drop_tables(struct domain *d);
int set_entry(struct domain *d, uint64_t table, uint32_t index, uint64_t value, int preserve_ad);
int check_descriptor(uint64_t *descriptor);
void flush_all(struct domain *d);
uint64_t take_free_frame(struct domain *d);

/* xen_mmu.c */
int64_t xen_mmu_update(struct hvmx_hypercall *call);
int64_t xen_mmuext_op(struct hvmx_hypercall *call);
int64_t xen_update_va_mapping(struct hvmx_hypercall *call);
int64_t xen_vm_assist(struct hvmx_hypercall *call);
void load_page_tables(struct domain *d);
/* The table of level 1 for an address of the guest's, below a table of level 4; 0 where there is none. `*granted`: what
 * the entries above it allow. */
uint64_t level1_table(const struct domain *d, uint64_t l4, uint64_t address, uint64_t *granted);
int new_base(struct domain *d, uint64_t l4);
/* One element of a list is done: charges it, and says whether the rest must wait. */
int preempt_after(struct domain *d);

/* xen_memory.c */
int64_t xen_memory_op(struct hvmx_hypercall *call);
int64_t xen_grant_table_op(struct hvmx_hypercall *call);

/* xen_descriptors.c */
uint32_t load_code_segment(struct domain *d, uint16_t selector);
uint32_t load_stack_segment(struct domain *d, uint16_t selector);
int64_t set_ldt(struct domain *d, uint64_t base, uint64_t entries);
void drop_ldt_pages(struct domain *d);
int ldt_fault(struct domain *d, uint64_t *cr2);
int64_t xen_set_gdt(struct hvmx_hypercall *call);
int64_t xen_update_descriptor(struct hvmx_hypercall *call);
int64_t xen_set_segment_base(struct hvmx_hypercall *call);

/* xen_traps.c */
int xen_hypercall(Cpu *cpu, Op *op);
int xen_exception(Cpu *cpu, uint32_t vector, uint32_t error, uint64_t cr2);
int deliver_event(struct domain *d);
void toggle_mode(struct domain *d);
int64_t xen_set_trap_table(struct hvmx_hypercall *call);
int64_t xen_set_callbacks(struct hvmx_hypercall *call);
int64_t xen_callback_op(struct hvmx_hypercall *call);
int64_t xen_stack_switch(struct hvmx_hypercall *call);
int64_t xen_iret(struct hvmx_hypercall *call);
int64_t xen_multicall(struct hvmx_hypercall *call);

void set_rflags(struct domain *d, uint64_t flags);

/* xen_ptwr.c */
int page_write_begin(struct domain *d, uint32_t error, uint64_t address);
int page_write_end(struct domain *d, uint32_t *vector, uint32_t *error, uint64_t *cr2);

/* xen_emulate.c */
int writes_once(struct domain *d, uint64_t ip);
int xen_privileged(Cpu *cpu, uint64_t ip);
int forced_cpuid(struct domain *d);
int64_t xen_fpu_taskswitch(struct hvmx_hypercall *call);
int64_t xen_set_debugreg(struct hvmx_hypercall *call);
int64_t xen_get_debugreg(struct hvmx_hypercall *call);
int64_t xen_physdev_op(struct hvmx_hypercall *call);

/* xen_events.c */
int64_t xen_event_channel_op(struct hvmx_hypercall *call);
void raise_port(struct domain *d, uint32_t port);
void raise_virq(struct domain *d, uint32_t virq);
uint32_t host_port(struct domain *d);
void wake(struct domain *d);

/* xen_time.c */
uint64_t system_time(const struct domain *d);
void start_time(struct domain *d, uint64_t epoch);
void schedule(struct domain *d);
void board_scheduled(struct domain *d);
int xen_event(Cpu *cpu);
int xen_deadline(Cpu *cpu);
void enter_runstate(struct domain *d, int state);
int64_t xen_vcpu_op(struct hvmx_hypercall *call);
int64_t xen_set_timer_op(struct hvmx_hypercall *call);
int64_t xen_sched_op(struct hvmx_hypercall *call);

/* xen_console.c, xen_version.c */
int64_t xen_console_io(struct hvmx_hypercall *call);
void console_ring(struct domain *d);
uint32_t xen_console_room(const struct domain *d);
uint32_t xen_console_input(struct domain *d, const uint8_t *text, uint32_t size);
int64_t xen_version(struct hvmx_hypercall *call);

static inline uint64_t cycles_now(const Cpu *cpu)
{
    return (cpu->time + ((uint64_t)(cpu->acct - cpu->acct_start) >> ACCT_SHIFT)) / CYCLE_FRACTION;
}

static inline int is_canonical(uint64_t address)
{
    return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}

/* Not in the hypervisor's range, nor non-canonical below it (Xen: __addr_ok). */
static inline int is_guest_address(uint64_t address)
{
    return address < 1ull << 47 || address >= HYPERVISOR_VIRT_END;
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

static inline int event_deliverable(const struct domain *d)
{
    return d->vcpu_info->evtchn_upcall_pending && !d->vcpu_info->evtchn_upcall_mask;
}

#endif
