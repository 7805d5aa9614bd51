/* The hypercall table of one machine: numbers to functions, with their counts. */
#ifndef HVMX_TABLE_H
#define HVMX_TABLE_H

#include "core_services.h"
#include "hvmx_hypercall.h"

struct hypercall_entry {
    hvmx_hypercall_fn fn;     /* never NULL: numbers without a function have one that answers -ENOSYS */
    void *user;
    uint64_t count;           /* calls so far */
    uint64_t unanswered;      /* of these, answered -ENOSYS: no function, or one without the operation asked for */
    uint32_t cost;            /* of the work beyond the way in and out, in 1/CYCLE_FRACTION guest cycles */
    uint32_t flags;           /* ENTRY_* */
    /* For VMCALL: the last `count - tallied` calls answered in C cost `last` of Cpu.acct each, and are not in the tally yet. */
    uint64_t tallied;
    int64_t last;
    uint64_t spare;           /* padding to a power of 2, for cheap indexing */
};

enum { ENTRY_TAKEN = 1,       /* a function answers this number */
       ENTRY_SLOW = 2 };      /* that function is in Python */

struct hypercall_table {
    struct hypercall_entry entry[HVMX_HYPERCALLS];
    struct hypercall_entry beyond;  /* for all larger numbers */
};

void hvmx_table_init(struct hypercall_table *table);

/* 0, -HVMX_EEXIST when the number is taken, -HVMX_EINVAL when there is no such number or function. */
int hvmx_table_register(struct hypercall_table *table, uint32_t number, hvmx_hypercall_fn fn, void *user, uint32_t flags);

/* Charge guest cycles in units of 1/CYCLE_FRACTION. */
static inline void charge_fraction(Cpu *cpu, uint64_t fraction)
{
    cpu->acct += (int64_t)(fraction << ACCT_SHIFT);
}

/* The entry of a number; beyond the table, one that answers -ENOSYS. */
static inline struct hypercall_entry *table_entry(struct hypercall_table *table, uint64_t number)
{
    return LIKELY(number < HVMX_HYPERCALLS) ? &table->entry[number] : &table->beyond;
}

/* Makes the call, whose cost the caller has charged. If Cpu.fault is FAULT_ABORT afterwards, a function in Python raised: the
 * caller undoes everything, this count included. */
static inline uint64_t entry_call(struct hypercall_entry *entry, struct hvmx_hypercall *call, uint64_t number)
{
    entry->count++;
    call->number = (uint32_t)number;
    call->user = entry->user;
    int64_t result = entry->fn(call);
    if (UNLIKELY(result == -HVMX_ENOSYS))
        entry->unanswered++;
    return (uint64_t)result;
}

/* Access to guest memory by linear address, with the guest's rights. 0 or -HVMX_EFAULT. */
int guest_read(Cpu *cpu, void *to, uint64_t guest, uint64_t size);
int guest_write(Cpu *cpu, uint64_t guest, const void *from, uint64_t size);

/* To be called before the hypervisor writes to a page of RAM directly, not through the core. */
static inline void page_changes(Cpu *cpu, uint64_t page)
{
    if (UNLIKELY(cpu->page_flags[page] & (PAGE_CODE | PAGE_TABLE)))
        hvmx_core->page_written(cpu, page);
}

extern const struct hvmx_services hypercall_services;

/* Calls of one number that were answered in C, without an exit to Python, and the guest cycles they took. */
struct vmcall_tally {
    uint64_t count, cycles, least, most;
};

/* VMCALL with KVM's numbers: Cpu.vmcall_table points at one of these. */
struct vmcall {
    struct hypercall_table table;
    struct vmcall_tally in_c[HVMX_HYPERCALLS];
    uint64_t frequency;       /* guest cycles a second */
    uint64_t epoch;           /* wall clock at guest cycle 0: seconds since 1970-01-01 UTC */
    struct hvmx_hypercall call;
};

void vmcall_init(struct vmcall *vmcall, Cpu *cpu, uint64_t frequency, uint64_t epoch);
/* Cpu.vmcall: 0 when a C function has answered the call in the registers, 1 when it is for the handler in Python. */
int vmcall_dispatch(Cpu *cpu);
/* Answers any call, for the handler in Python. 1: a function in Python raised, and the call did not happen. */
int vmcall_answer(struct vmcall *vmcall, Cpu *cpu);
/* The tally of a number, up to date. */
const struct vmcall_tally *vmcall_tally_of(struct vmcall *vmcall, uint32_t number);

#endif
