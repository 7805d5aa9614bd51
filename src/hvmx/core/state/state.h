/* The state of one virtual processor, shared by the Cython core (through state.pxd) and by the C of cext/.
 *
 * Conventions
 *   - Registers are 64 bits wide in every mode; a 32-bit write zero-extends, 8- and 16-bit writes merge (SDM vol. 1,
 *     3.4.1.1).
 *   - A register operand is given by its *byte offset* in `Cpu`, which starts with the register file. AH is offset 1, and
 *     no handler has a special case for the high byte registers.
 *   - `Cpu.r[REG_ZERO]` is always 0: it replaces an absent base or index register.
 *   - Handlers never take the address of a local: that keeps the compiler from turning the call of the next handler into
 *     a jump, and the host stack would grow without end. Slow paths leave their results in `Cpu`.
 */
#ifndef HVMX_STATE_H
#define HVMX_STATE_H

#include <stddef.h>
#include <stdint.h>

#include "pipeline.h"
#include "tlb.h"
#include "vocabulary.h" /* EXIT_REASON_*, CTL_*, EXIT_*, STOP_* */

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

enum { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_ZERO = 16 };
enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SEG_COUNT };

/* Exception vectors (SDM vol. 3, table 6-1). */
enum { VEC_DE = 0, VEC_DB = 1, VEC_NMI = 2, VEC_BP = 3, VEC_OF = 4, VEC_BR = 5, VEC_UD = 6, VEC_NM = 7, VEC_DF = 8,
       VEC_TS = 10, VEC_NP = 11, VEC_SS = 12, VEC_GP = 13, VEC_PF = 14, VEC_MF = 16, VEC_AC = 17, VEC_MC = 18, VEC_XM = 19 };

/* RFLAGS bits. */
enum { FL_CF = 1, FL_PF = 4, FL_AF = 0x10, FL_ZF = 0x40, FL_SF = 0x80, FL_TF = 0x100, FL_IF = 0x200, FL_DF = 0x400,
       FL_OF = 0x800, FL_IOPL = 0x3000, FL_NT = 0x4000, FL_RF = 0x10000, FL_VM = 0x20000, FL_AC = 0x40000,
       FL_VIF = 0x80000, FL_VIP = 0x100000, FL_ID = 0x200000 };
#define FL_ARITH (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF)

/* Access rights of a segment, in the format of the VMCS (SDM vol. 3, 24.4.1). */
enum { AR_ACCESSED = 1, AR_TYPE = 0xf, AR_S = 0x10, AR_DPL = 0x60, AR_P = 0x80, AR_AVL = 0x1000, AR_L = 0x2000,
       AR_DB = 0x4000, AR_G = 0x8000, AR_UNUSABLE = 0x10000 };

enum { CR0_PE = 1, CR0_MP = 2, CR0_EM = 4, CR0_TS = 8, CR0_ET = 0x10, CR0_NE = 0x20, CR0_WP = 0x10000, CR0_AM = 0x40000,
       CR0_NW = 0x20000000, CR0_CD = 0x40000000 };
#define CR0_PG 0x80000000u
enum { CR4_VME = 1, CR4_PVI = 2, CR4_TSD = 4, CR4_DE = 8, CR4_PSE = 0x10, CR4_PAE = 0x20, CR4_MCE = 0x40, CR4_PGE = 0x80,
       CR4_PCE = 0x100, CR4_OSFXSR = 0x200, CR4_OSXMMEXCPT = 0x400, CR4_UMIP = 0x800, CR4_PCIDE = 0x20000, CR4_OSXSAVE = 0x40000,
       CR4_SMEP = 0x100000, CR4_SMAP = 0x200000 };
enum { EFER_SCE = 1, EFER_LME = 0x100, EFER_LMA = 0x400, EFER_NXE = 0x800 };

/* The decoding mode: everything that the meaning of instruction bytes depends on. Blocks are keyed by it. CS_ID is the
 * number of a (base, limit) pair of CS, 0 being flat, so that a block's linear addresses and limit never change. */
enum { MODE_16 = 0, MODE_32 = 1, MODE_64 = 2, MODE_WIDTH = 3, MODE_STACK32 = 4, MODE_FLAT_DS = 8, MODE_FLAT_ES = 16,
       MODE_FLAT_SS = 32, MODE_USER = 64, MODE_CS_ID_SHIFT = 7, MODE_CS_IDS = 256 };

/* Accounting: cycles and retired instructions share one word, so that the end of a block costs one addition.
 * Bits 24-63 count guest cycles in units of 1/CYCLE_FRACTION, bits 0-23 instructions. */
#define ACCT_SHIFT 24
#define ACCT_INSTR_MASK ((1 << ACCT_SHIFT) - 1)
#define CYCLE_FRACTION 120 /* a multiple of the widths that pipelines have */
/* A block has so many instructions at most, and each begins within this time from its start, in units of 1/CYCLE_FRACTION
 * cycle. */
#define BLOCK_INSTRUCTIONS 64
#define BLOCK_UNITS (2048 * CYCLE_FRACTION)

#define TRANSLATE_NEVER 0xffffffffu
#define BUCKET_BITS 15
#define BUCKETS (1 << BUCKET_BITS)
#define TLB_ENTRIES 512
#define JCACHE_ENTRIES 2048
#define MOST_PLAIN 192             /* Ops of a block */

typedef struct Cpu Cpu;
typedef struct Op Op;
typedef void (*OpFn)(Cpu *, Op *);

/* One decoded operation. An instruction is one Op; or it has others in front: a guard (may the instruction be executed at
 * all?), and an address Op, which leaves the checked linear address in Cpu.ea. Ops of a block are contiguous; the next
 * one is at op + 1. */
struct Op {
    OpFn fn;
    uint8_t d, s;         /* byte offsets of the register operands in Cpu */
    uint8_t b, i;         /* byte offsets of base and index registers in Cpu */
    uint8_t scale;        /* log2 of the index's scale */
    uint8_t seg;          /* segment of the memory operand */
    uint8_t len;          /* length of the instruction in bytes */
    uint8_t x;            /* for the handler: condition, address size, sub-operation, ... */
    int64_t imm;          /* immediate, or the target's instruction pointer of a direct branch */
    union {
        int64_t disp;     /* displacement of the memory operand (absolute for RIP-relative) */
        Op *target;       /* direct branches: first Op of the block branched to, once linked */
    };
    uint16_t place;       /* of this Op in its block, whose head is op - place */
    uint16_t number;      /* of the instruction in its block, from 0 */
    uint8_t way;          /* of its node's ways, the one to account with here; NO_WAY for Ops that hardly ever leave the block */
    uint8_t unused[3];
    uint64_t ip;          /* instruction pointer of the instruction */
};

typedef struct {
    uint64_t r, w;        /* the page's address where the fast path may read, write; else NO_PAGE */
    uint64_t tag;         /* linear page that this entry translates; NO_PAGE when invalid */
    int64_t addend;       /* host address minus linear address, when any of r, w, open is set */
    uint64_t phys;        /* guest-physical page */
    uint64_t rights;      /* TLB_* */
    uint64_t slot;        /* number of the instruction TLB's entry, with TLB_CODE */
    uint64_t open;        /* OPEN_*. The entry has 64 bytes: one cache line, and found by a shift */
} TlbEntry;
#define NO_PAGE 0xfffULL  /* never equal to a page address */
#define NO_SLOT 0xffffffffULL
enum { TLB_WRITE = 1, TLB_EXEC = 2, TLB_GLOBAL = 4, TLB_DIRTY = 8, TLB_LARGE = 16,
       TLB_HUGE = 32,     /* besides TLB_LARGE: of 1 GiB */
       TLB_DATA = 64,     /* the first level of the model (tlb.pxd) has it for data, ... */
       TLB_CODE = 128 };  /* ... for instructions */
/* Where caches are modelled r and w stay NO_PAGE, so that every access is seen. These say what they would be. */
enum { OPEN_READ = 1, OPEN_WRITE = 2 };

/* One TLB for each way of checking access rights, so that a hit needs no check. */
enum { TLB_SUPER,         /* CPL 0-2 */
       TLB_SUPER_AC,      /* CPL 0-2 with EFLAGS.AC set: SMAP is suspended */
       TLB_USER,          /* CPL 3 */
       TLB_USER_AC,       /* CPL 3 with alignment checking on: no entry here has a fast path */
       TLB_KINDS };

typedef struct { uint64_t key; Op *op; } JumpEntry;

typedef struct {
    uint64_t base;
    uint32_t limit;       /* in bytes, granularity already applied */
    uint32_t access;      /* AR_* */
    uint16_t selector;
} Segment;

typedef struct { uint64_t base; uint32_t limit; } TableRegister;

typedef struct { uint64_t base, size; uint8_t *host; } Rom;

/* What an exit tells its handler (SDM vol. 3, 27.2). */
typedef struct {
    uint32_t reason;             /* EXIT_REASON_* */
    uint32_t length;             /* instruction length */
    uint64_t qualification;      /* as the SDM has it for the reason */
    uint64_t linear, physical;   /* guest addresses, for EPT violations and MMIO */
    uint64_t value;              /* data in or out: port, MMIO, MSR, CR */
    uint32_t number;             /* port, MSR, vector, control register */
    uint32_t width;              /* bytes, for ports and MMIO */
    uint32_t is_write;           /* to the device, MSR or register */
    uint32_t error_code;         /* for exceptions */
    uint32_t host_only;          /* a page fault that the guest must not see: shadow paging's own */
} ExitInfo;

/* What blocks interrupts until the next instruction has ended: as the interruptibility state of a VMCS (SDM vol. 3,
 * table 24-3). MOV SS blocks NMIs and debug traps, too. */
enum { SHADOW_STI = 1, SHADOW_MOV_SS = 2 };

enum { NMI_BLOCKED = 1,   /* until the next IRET (SDM vol. 3, 6.7.1) */
       NMI_LATCHED = 2 }; /* one more is waiting for it */

/* Cpu.vectoring: the IDT-vectoring information of a VMCS (SDM vol. 3, 24.9.3). */
#define VECTORING_VALID 0x80000000u
enum { VECTORING_NMI = 2 << 8, VECTORING_EXCEPTION = 3 << 8 };

/* For crash reports: an exception that was delivered to the guest, or one that was raised during the delivery of another
 * and turned it into a double or triple fault. */
typedef struct {
    uint64_t time, rip;           /* as Cpu.time, and the instruction */
    uint64_t address;             /* of page faults */
    uint32_t vector, error;
    uint32_t vectoring;           /* the event during whose delivery it was raised, or 0 */
} PastException;

/* What has been charged of one kind, less what was taken back. */
typedef struct {
    int64_t count;
    int64_t units;         /* of 1/CYCLE_FRACTION guest cycle */
} Charged;
/* More than one instruction can raise: MOST_SERIAL, and the two of a double and a triple fault. */
enum { PAST_EXCEPTIONS = 16 };

/* What is left to do for the instruction with which the chain of handlers returned (Cpu.fault). */
enum { FAULT_NONE = 0,
       FAULT_EXCEPTION,   /* deliver Cpu.fault_vector; the state is that of before the instruction */
       FAULT_ABORT,       /* an exit handler raised an error or stopped the machine: the instruction did not happen */
       FAULT_SKIP };      /* an exit handler set Cpu.rip: nothing is left to do */

/* Cpu.pending: what the run loop looks at between blocks. */
enum { PEND_INTR = 1,     /* the interrupt controller's output is high */
       PEND_NMI = 2,
       PEND_FLUSH = 8,    /* forget all decoded code */
       PEND_TRAP = 16,    /* a debug trap (#DB) is due after this instruction; bits in Cpu.dr6_pending */
       PEND_EVENT = 32,   /* a PV event upcall may be due */
       PEND_BUDGET = 64 };/* time has passed, or something is due sooner: a new budget is needed */

/* Flags of a guest-physical page of RAM. */
enum { PAGE_ROM = 1,      /* writes are dropped */
       PAGE_HOLE = 2,     /* not RAM here: MMIO */
       PAGE_BACKED = 4,   /* nested paging maps it (an EPT violation has been taken) */
       PAGE_CODE = 8,     /* decoded blocks exist */
       PAGE_TABLE = 16,   /* write-protected page table, under shadow paging */
       PAGE_OPEN = 32 };  /* a TLB entry may have a fast path for writes to it */

typedef struct Block Block;
typedef struct CodePage CodePage;

/* Decoded code that is entered at its first Op, or where it was left. `ops` of them follow the header; then the timings. */
struct Block {
    Block *hash_next;
    Block *page_next, *page2_next; /* others on the page where it starts, on the page where it ends */
    uint64_t physical, ip;
    uint64_t physical2;            /* the second page, of a single instruction that crosses into it; else NO_PAGE */
    uint32_t mode;
    uint16_t ops;
    uint16_t dropped;              /* no longer found, but still in the list of its other page, until that changes */
    uint16_t ways;                 /* Ops that leave it */
    Timing *timings;               /* of its instructions */
    Op head;                       /* place 0 */
};

/* What shadow paging mirrors of one guest page table: a bit for every 4 bytes, set for the first word of an entry. The
 * guest may change its paging mode at any time, so addresses are those that the walk read, after the A20 gate. */
typedef struct ShadowPage ShadowPage;
struct ShadowPage {
    uint64_t present[16], writable[16];
    uint64_t writes;               /* by the guest, since a walk last used the page */
    uint64_t parent;               /* address of the entry that refers to the page; 1 for CR3 */
    uint32_t entry_size;           /* of this table and its parent when a walk last used the page: 4 or 8 */
    uint8_t upper;                 /* a walk has used an entry of it that does not name a page of 4 KiB */
    uint8_t out_of_sync;           /* not write-protected: entries may have changed since they were mirrored */
    uint64_t frame;                /* its guest-physical address */
    ShadowPage *next;              /* list of those that are out of sync */
    uint32_t mirrored[1024];       /* the entries whose bit in `present` is set */
};

/* What is decoded from one page of RAM. */
struct CodePage {
    Block *first;
    uint64_t chunks;               /* which 64-byte pieces of the page hold decoded bytes */
    CodePage *next_used;           /* list of the pages decoded from since the last flush; NULL: not in it */
    uint64_t frame;
};

struct Cpu {
    /* 0: the register file; Op.d, s, b, i are byte offsets from here. */
    uint64_t r[17];
    /* Was it predicted that the branch at `ip` goes this way? The predictor learns it (core/pipeline/predictor.pxd). */
    int (*predicts)(Cpu *, uint64_t ip, int taken);
    int (*predicts_target)(Cpu *, uint64_t ip, uint64_t target);
    /* Lazy flags: SF and ZF are those of fl_res (sign-extended to 64 bits), PF that of its low byte; AF is bit 4 of fl_aux,
     * OF is bit 63 of fl_aux xor CF; fl_cf has CF in bit 0. POPF can set combinations that no result has, such as ZF with
     * SF: for these, bit 8 of fl_cf inverts PF, and bit 16 inverts SF. */
    int64_t fl_res, fl_aux;
    uint64_t fl_cf;
    int64_t acct;                  /* counts up; while it is negative, branches go on without returning to the run loop */
    Node *node;                    /* up to which Cpu.acct has been accounted; what the chain has run since comes on top */
    uint64_t ea, ea_offset;        /* linear address left by an address Op, and the offset in its segment */
    uint64_t rmw_value;            /* buffer for a read-modify-write of memory that has no fast path */
    TlbEntry *tlb;                 /* the TLB of the present privilege */
    uint64_t mode_key;             /* mode << 48: a canonical address xor this is a different key in each mode */
    uint32_t fault;                /* FAULT_* */
    uint32_t pending;              /* PEND_* */
    uint64_t rip;                  /* valid outside the chain of handlers */
    uint64_t rflags;               /* all but the arithmetic flags, which are lazy */
    Segment seg[SEG_COUNT];
    Op *link_from;                 /* direct branch that will be linked to the next block that is entered */
    Op *resume;                    /* where the chain was left in the midst of a block, to go on without a new look-up */
    Op *cut;                       /* the Op whose handler is replaced while the chain runs: see cut.pxd */
    OpFn cut_handler;              /* the handler that it had */
    uint8_t cpl, tlb_kind, halted;
    uint8_t shadow;                /* SHADOW_*: no interrupt before the next instruction has ended */
    uint32_t mode;                 /* MODE_* */

    TableRegister gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer;
    uint64_t dr[8];
    uint64_t dr6_pending;
    uint64_t pdpte[4];             /* PAE: loaded with CR3 (SDM vol. 3, 4.4.1) */

    uint32_t fault_vector, fault_error;
    uint32_t entered;              /* INT n or SYSCALL has entered the guest's handler: no single-step trap follows */
    uint64_t fault_dr6;

    /* time */
    uint64_t time;                 /* guest cycles in units of 1/CYCLE_FRACTION at the start of the slice */
    uint64_t instructions;         /* retired before the slice */
    int64_t acct_start;            /* acct at the start of the slice */
    int64_t budget_end;            /* acct at which the slice ends */
    uint64_t deadline;             /* guest cycle (not fraction) at which on_deadline has something to do */
    uint64_t platform_deadline;    /* of these, when the platform has: `deadline` is earlier if a domain's timer is due first */
    uint64_t input_at;             /* guest cycle (not fraction) at which to look for input */
    uint64_t slice_end;            /* guest cycle (not fraction) at which run() ends */
    int64_t tsc_offset;
    uint32_t stop;                 /* STOP_* */
    volatile uint32_t stop_request; /* leave run(): the one word that other threads write */
    uint32_t stepping;             /* one instruction at a time */
    uint32_t window;               /* an interrupt has waited: its delivery takes an interrupt-window exit first */
    uint32_t host_interrupted;     /* the external-interrupt exit for the device that is due has been taken */
    uint32_t vectoring;            /* IDT-vectoring information: the event whose delivery an exit handler aborted */
    uint8_t nmi;                   /* NMI_* */
    uint8_t ignne;                 /* IGNNE#: x87 instructions run in spite of an unmasked exception */

    /* MSRs */
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux, apic_base, pat, misc_enable;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_phys[16], mcg_status, debugctl;

    /* performance counters (counters.pyx) */
    uint64_t event_select[2];      /* PerfEvtSel0 and 1; on a Pentium CESR in the first */
    uint64_t event_count[2];       /* in units of 1/CYCLE_FRACTION event */
    uint64_t counted_time, counted_instructions, counted_deliveries; /* up to where the counters have been updated */
    uint64_t uncounted_events[4];  /* a bit for each event number that was selected and is not implemented */
    uint32_t counting;             /* a counter runs */

    uint32_t tr[8];                /* TR3 to TR7 of a 486 */

    /* floating-point control state, and the image that FXSAVE stores */
    uint16_t fcw, fsw, ftw, fop;
    uint64_t fip, fdp;             /* offsets of the last instruction and its operand, in ... */
    uint16_t fcs, fds;             /* ... these segments */
    uint32_t mxcsr, mxcsr_mask;
    uint32_t mxcsr_lent;           /* the host's MXCSR collects the guest's exception flags: see mxcsr_host.h */
    uint32_t host_mxcsr, gathered_mxcsr;
    uint64_t xcr0;                 /* state components that XSAVE and XRSTOR handle */
    uint8_t fpr[8][16];
    uint8_t xmm[16][16];
    uint64_t vector_operand[2];    /* buffer for a vector in memory that has no fast path */
    uint64_t vector_result[2];     /* buffer for the result, until it is known that there is no exception */

    /* the generator behind RDRAND and RDSEED: seeded by the machine, never by the host */
    uint64_t random_state, random_draws;

    /* memory */
    TlbModel *tlb_model;
    void *caches;                  /* CacheModel (core/memory/caches.pxd), or NULL where none are modelled */
    uint64_t code_slot;            /* fetch_page(): the instruction TLB's entry, or NO_SLOT */
    uint8_t *ram;
    uint64_t ram_low;              /* bytes of RAM from guest-physical 0 */
    uint64_t ram_high;             /* bytes of RAM from 4 GiB on; at host ram + ram_low */
    uint8_t *page_flags;           /* PAGE_*, for each page of RAM */
    CodePage **code_pages;         /* for each page of RAM */
    CodePage *used_pages;          /* list of the pages decoded from since the last flush; the last one's next is itself */
    ShadowPage **shadow_pages;     /* for each page of RAM, under shadow paging */
    ShadowPage *out_of_sync;       /* list of those of them */
    Rom roms[8];
    uint32_t rom_count;
    uint32_t cs_count;             /* known (base, limit) pairs of CS; 0 is flat */
    uint64_t cs_base[MODE_CS_IDS];
    uint32_t cs_limit[MODE_CS_IDS];
    uint8_t *arena;                /* decoded blocks, which are only freed all at once */
    uint64_t arena_used, arena_size;
    uint8_t *host_code;            /* translated traces; NULL where there is no translator */
    uint64_t host_code_used, host_code_size;
    uint32_t translate_after;      /* a block is translated at this many entries; TRANSLATE_NEVER */
    Block **buckets;               /* blocks by physical address, ip and mode */
    uint64_t bucket_keys[3];       /* drawn by the host, so that no guest can choose addresses that share a bucket */
    OpFn stale;                    /* the handler of all Ops of dropped blocks: returns to the run loop */
    uint64_t features;             /* bits of 1 << FEATURE_*: which rows of the instruction table there are */
    uint64_t cr4_defined, efer_defined; /* the bits that may be set */
    uint32_t phys_bits;
    uint64_t a20_mask;             /* and-ed with every physical address */

    /* exits */
    ExitInfo exit;
    int (*on_deadline)(Cpu *);     /* does what is due and sets Cpu.deadline; nonzero: leave run() */
    int (*acknowledge)(Cpu *);     /* the interrupt controller's vector, or -1 for none (spurious) */
    int (*on_idle)(Cpu *);         /* halted and nothing due: 0 if something may still wake it */
    int (*on_ferr)(Cpu *);         /* an unmasked x87 exception, with CR0.NE clear */
    int (*on_input)(Cpu *);        /* look for input and set Cpu.input_at; nonzero: leave run() */
    int (*on_poll)(Cpu *);         /* signals and limits of host time; nonzero: leave run() */
    uint64_t poll_at;              /* host time at which to call it, in ns of CLOCK_MONOTONIC */
    const volatile uint64_t *held_signals; /* not 0: a signal is waiting, call on_poll at once */
    int (*vmexit)(Cpu *);          /* calls the handler of Cpu.exit; nonzero: abort the instruction */
    uint32_t controls;             /* CTL_* */
    uint32_t exception_bitmap;
    uint64_t cr0_mask, cr4_mask;   /* host-owned bits: a write that changes one exits */
    uint64_t cr0_shadow, cr4_shadow;
    uint8_t *io_bitmap;            /* 64 Ki bits: set exits */
    uint8_t *msr_bitmap;           /* 4 KiB, SDM vol. 3, 24.6.9 */

    /* paravirtual guests (NULL otherwise) */
    void *pv;
    uint32_t pv_privilege;                 /* PRIVILEGE_PV_* */
    int (*pv_hypercall)(Cpu *, Op *);      /* SYSCALL in kernel context, or the hypercall page */
    int (*pv_exception)(Cpu *, uint32_t vector, uint32_t error, uint64_t cr2);
    int (*pv_privileged)(Cpu *, uint64_t ip); /* a privileged instruction faulted at ring 3: 0 when emulated */
    int (*pv_event)(Cpu *);                /* PEND_EVENT: deliver an upcall if unmasked */
    void (*pv_schedule)(Cpu *);            /* sets Cpu.deadline to platform_deadline, or to a timer that is due before */
    int (*vmcall)(Cpu *);                  /* VMCALL in an HVM guest: 0 when answered by the table */
    void *vmcall_table;                    /* what vmcall finds its functions in */

    /* costs (units of 1/CYCLE_FRACTION guest cycle) and counts */
    PipelineModel *model;
    Predictor *predictor;          /* NULL: all branches are predicted */
    int (*predicts_return)(Cpu *, uint64_t target);
    void (*on_misprediction)(Cpu *, Op *); /* a branch that has been executed goes to Cpu.rip, which was not predicted */
    uint64_t mispredictions;
    void *hot;                     /* Hot: where guest cycles go, if that is asked (core/pipeline/hot.pyx); else NULL */
    void *paths;                   /* Paths: the nodes and states that are known (core/pipeline/paths.pyx) */
    void (*time_through)(Cpu *, Op *);     /* these are explained in core/pipeline/paths.pxd */
    void (*go_through)(Cpu *, Op *, Op *target);
    void (*begin_at)(Cpu *, Op *);
    void (*account_before)(Cpu *, Op *);
    void (*take_back)(Cpu *, Op *);
    const uint32_t *exit_cost;     /* by exit reason */
    uint32_t walk_cost, exception_cost, hypercall_cost, pv_bounce_cost;
    uint64_t tlb_misses, tlb_second_hits; /* of the model */
    struct Timeline *timeline;     /* what happens when, if that is asked (timeline.h); else NULL */
    uint64_t walk_references, exceptions, hypercalls, interrupts, blocks_decoded, blocks_translated, code_flushes;
    Charged charged[CHARGES];
    uint64_t halted_time;          /* spent waiting for an interrupt, in the unit of `time` */
    uint64_t shadow_faults;        /* page faults that only the hypervisor sees: shadow fills and page-table writes */
    PastException past_exceptions[PAST_EXCEPTIONS]; /* a ring */
    uint64_t past_exception_count;

    void *machine;                 /* the Python object, for vmexit */
    Op *next_op;                   /* HVMX_RETURNING: the Op that go_on was called with */
    /* A repeated string instruction keeps the translations of its source and of its destination from element to element,
     * even if both belong in the same TLB entry, and while it is interrupted by the end of a slice: otherwise its cost
     * would depend on where slices end. */
    Op *string_op;                 /* the instruction, until it ends or a translation may have changed; else NULL */
    TlbEntry string_tlb[2];        /* the translations of rSI and of rDI */
    /* A bit for each entry of the jump cache and of the TLBs that may be valid, so that a flush visits only those. */
    uint64_t jumps_used[JCACHE_ENTRIES / 64], tlb_used[TLB_KINDS][TLB_ENTRIES / 64];
    /* Of these, the ones that may be global, and the ones that may be part of a large page. */
    uint64_t tlb_global[TLB_KINDS][TLB_ENTRIES / 64], tlb_large[TLB_KINDS][TLB_ENTRIES / 64];
    /* Ops before Cpu.cut whose handlers are replaced, too: by what computes all flags, and is no trace. */
    uint32_t plain_count;
    Op *plain[MOST_PLAIN];
    OpFn plain_handler[MOST_PLAIN]; /* the handlers that they had */
    JumpEntry jcache[JCACHE_ENTRIES];
    TlbEntry tlbs[TLB_KINDS][TLB_ENTRIES];
};

/* Hosts that the translator has code for. */
#if defined __x86_64__ && defined __ELF__
#define HOST_IS_TRANSLATED_FOR 1
#else
#define HOST_IS_TRANSLATED_FOR 0
#endif

/* On to an operation: a call in tail position, which the compiler turns into a jump. Builds in which it does not
 * (sanitizers keep frames alive) define HVMX_RETURNING: there the handler returns, and run_chain.h calls the next one. */
#ifdef HVMX_RETURNING
#define go_on(cpu, op) ((void)((cpu)->next_op = (op)))
#else
/* The empty asm keeps the compiler from folding `op + 1` into the load of fn: it would then compute it a second time. */
static inline __attribute__((always_inline)) void go_on(Cpu *cpu, Op *op)
{
    __asm__("" : "+r"(op));
    op->fn(cpu, op);
}
#endif

/* In units of 1/CYCLE_FRACTION guest cycle. */
static inline uint64_t guest_time(const Cpu *cpu)
{
    return cpu->time + ((uint64_t)(cpu->acct - cpu->acct_start) >> ACCT_SHIFT);
}

static inline Block *block_of(Op *op) { return (Block *)((uint8_t *)(op - op->place) - offsetof(Block, head)); }

/* Account for the chain up to and including the instruction of `op`, with its branch taken if it is a conditional one.
 * Cpu.node is then at no place. */
static inline void account(Cpu *cpu, Op *op)
{
    Way *way = &ways_of(cpu->node)[op->way];
    if (LIKELY(op->way != NO_WAY) && LIKELY(way->after != NULL)) {
        cpu->acct += way->cost;
        cpu->node = way->after;
    } else {
        cpu->time_through(cpu, op);
    }
}

/* Cpu.node at this Op, in the present state. */
static inline void arrive_at(Cpu *cpu, Op *op)
{
    Node *latest = cpu->node->state->latest;
    if (latest != NULL && latest->entry == op)
        cpu->node = latest;
    else
        cpu->begin_at(cpu, op);
}

_Static_assert(offsetof(Cpu, r) == 0, "Op operands are byte offsets into the register file");
_Static_assert(sizeof(Op) == 48, "an Op is six words");

#endif
