/* The hypercall table of one machine: numbers to functions, with their counts. */
#ifndef HVMX_TABLE_H
#define HVMX_TABLE_H

#include "core_services.h"
#include "hvmx_hypercall.h"

/* What the calls of one number, or of one of its sub-operations, came to. Guest time is in units of 1/CYCLE_FRACTION cycle. To
 * know the host's time takes longer than most calls: some are timed, and each after it counts as the last one that was. */
struct call_tally {
    uint64_t calls;           /* so far */
    uint64_t untimed;         /* the next one is timed if `calls` has none of these bits */
    uint64_t last, settled;   /* all calls but the first `settled` took `last` units each, and are not in the sums yet */
    uint64_t units, least, most;
    uint64_t host_ns, host_least, host_most;
    uint64_t host_sample;     /* of the last that was timed; 0 if none was */
    uint64_t spare[5];        /* padding to a power of 2, for cheap indexing */
};

struct hypercall_entry {
    hvmx_hypercall_fn fn;     /* never NULL: numbers without a function have one that answers -ENOSYS */
    void *user;
    struct call_tally *tally; /* by sub-operation, and behind them one for larger numbers; one alone where there are none */
    uint32_t sub_operations;
    uint32_t flags;           /* ENTRY_* */
    uint32_t cost;            /* of the work beyond the way in and out, in 1/CYCLE_FRACTION guest cycles */
    uint64_t refused;         /* calls answered by an error */
    uint64_t unanswered;      /* of these, by -ENOSYS: no function, or one without the operation asked for */
    uint64_t exits;           /* VMCALLs that exited to Python, and are not tallied here */
};
_Static_assert(sizeof(struct hypercall_entry) == 64, "a power of 2, for cheap indexing");

enum { ENTRY_TAKEN = 1,       /* a function answers this number */
       ENTRY_SLOW = 2,        /* that function is in Python */
       ENTRY_LIST = 4,        /* what it is tallied by is known when it has gone through its list: each call is timed */
       ENTRY_RESUMES = 8,     /* what it returns is the guest's own value of the register, and never an error */
       ENTRY_CHARGES = 16 };  /* it charges for more than the way in and out, or may be taken back with what it charged */

enum { LARGEST_ERROR = 4095 }; /* Linux's MAX_ERRNO, in whose range Xen's and KVM's errors are, too */

/* Of each number and sub-operation so many of the first calls are timed, and after that one of so many (a power of 2): reading
 * the host's clock takes several times as long as a call. */
enum { FIRST_TIMED = 64, ONE_TIMED_OF = 1024 };

/* Of Cpu.charged, what a call may add to that is taken back afterwards: what it asks for, and guest memory that it reads. */
struct charged_before {
    Charged calls, caches;
};

struct hypercall_table {
    struct hypercall_entry entry[HVMX_HYPERCALLS + 1]; /* the last one is for all larger numbers */
    struct call_tally tally[HVMX_HYPERCALLS + 1];
    struct charged_before before; /* of the last call with ENTRY_CHARGES that was made by itself, not within a multicall */
};

void hvmx_table_init(struct hypercall_table *table);

/* Have the calls of a number tallied by sub-operation, in `count` + 1 tallies that are zero. */
void hvmx_table_divide(struct hypercall_table *table, uint32_t number, struct call_tally *tallies, uint32_t count);

/* 0, -HVMX_EEXIST when the number is taken, -HVMX_EINVAL when there is no such number or function. */
int hvmx_table_register(struct hypercall_table *table, uint32_t number, hvmx_hypercall_fn fn, void *user, uint32_t flags);

/* Calls of a number so far, those that exited to Python among them. */
uint64_t calls_of(const struct hypercall_entry *entry);

/* Charge guest time, in units of 1/CYCLE_FRACTION cycle. */
static inline void charge(Cpu *cpu, enum Charge kind, uint64_t units)
{
    cpu->charged[kind].count++;
    cpu->charged[kind].units += (int64_t)units;
    cpu->acct += (int64_t)(units << ACCT_SHIFT);
}

static inline void take_back_charge(Cpu *cpu, enum Charge kind, uint64_t units)
{
    cpu->charged[kind].count--;
    cpu->charged[kind].units -= (int64_t)units;
    cpu->acct -= (int64_t)(units << ACCT_SHIFT);
}

/* Guest time that has been charged since Cpu.acct was `before`. */
static inline uint64_t charged_since(const Cpu *cpu, int64_t before)
{
    return (uint64_t)(cpu->acct - before) >> ACCT_SHIFT;
}

/* Charge the cost of a call that is to be made, if it has one. */
static inline void charge_call(Cpu *cpu, const struct hypercall_entry *entry, struct charged_before *before)
{
    if (UNLIKELY(entry->flags & ENTRY_CHARGES)) { /* mostly not: saves a load and a store of Cpu.acct */
        *before = (struct charged_before){ cpu->charged[CHARGE_CALL], cpu->charged[CHARGE_CACHE] };
        if (entry->cost)
            charge(cpu, CHARGE_CALL, entry->cost);
    }
}

/* A call with ENTRY_CHARGES has not happened after all, nor has what it charged since. The caller resets Cpu.acct. */
static inline void take_back_charges(Cpu *cpu, const struct charged_before *before)
{
    cpu->charged[CHARGE_CALL] = before->calls;
    cpu->charged[CHARGE_CACHE] = before->caches;
}

/* The entry of a number; beyond the table, one that answers -ENOSYS. */
static inline struct hypercall_entry *table_entry(struct hypercall_table *table, uint64_t number)
{
    if (LIKELY(number < HVMX_HYPERCALLS))
        return &table->entry[number];
    return &table->entry[HVMX_HYPERCALLS];
}

/* The tally of a sub-operation, which is ignored where there are none. */
static inline struct call_tally *tally_of(struct hypercall_entry *entry, uint64_t sub_operation)
{
    uint64_t last = entry->sub_operations;
    return &entry->tally[last ^ ((last ^ sub_operation) & -(uint64_t)(sub_operation < last))]; /* the lesser, without a branch */
}

struct answer {
    uint64_t result;
    uint64_t host_ns;         /* 0 unless the call was timed */
};

/* The function's answer, timed. */
struct answer timed_call(struct hypercall_entry *entry, struct call_tally *tally, struct hvmx_hypercall *call);

/* Makes the call, whose cost the caller has charged and will add to the tally. If Cpu.fault is FAULT_ABORT afterwards, a
 * function in Python raised: the caller undoes everything, this count included. */
static inline struct answer entry_call(struct hypercall_entry *entry, struct call_tally *tally, struct hvmx_hypercall *call,
                                       uint64_t number)
{
    struct answer answer;
    call->number = (uint32_t)number;
    call->user = entry->user;
    if (UNLIKELY((tally->calls++ & tally->untimed) == 0))
        answer = timed_call(entry, tally, call);
    else
        answer = (struct answer){ (uint64_t)entry->fn(call), 0 };
    if (UNLIKELY(answer.result > (uint64_t)-1 - LARGEST_ERROR) && !(entry->flags & ENTRY_RESUMES)) {
        entry->refused++;
        entry->unanswered += answer.result == (uint64_t)-HVMX_ENOSYS;
    }
    return answer;
}

/* The last call took so much, other than those before it, or it was timed. */
void tally_settle(struct call_tally *tally, uint64_t units, uint64_t host_ns);

/* What the last call took; `host_ns` is 0 unless it was timed. */
static inline void tally_add(struct call_tally *tally, uint64_t units, uint64_t host_ns)
{
    if (UNLIKELY(host_ns || units != tally->last))
        tally_settle(tally, units, host_ns);
}

/* The last call was taken back: it raised, and will be made again, or injected an exception and took nothing. */
static inline void tally_take_back(struct call_tally *tally, int raised)
{
    if (raised)
        tally->calls--;
    else
        tally_add(tally, 0, 0);
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

/* VMCALL with KVM's numbers: Cpu.vmcall_table points at one of these. Calls that exit to Python are not in its tallies. */
struct vmcall {
    struct hypercall_table table;
    uint64_t frequency;       /* guest cycles a second */
    uint64_t epoch;           /* wall clock at guest cycle 0: seconds since 1970-01-01 UTC */
    struct hvmx_hypercall call;
};

void vmcall_init(struct vmcall *vmcall, Cpu *cpu, uint64_t frequency, uint64_t epoch);
/* Cpu.vmcall: 0 when a C function has answered the call in the registers, 1 when it is for the handler in Python. */
int vmcall_dispatch(Cpu *cpu);
/* Answers any call, for the handler in Python. 1: a function in Python raised, and the call did not happen. */
int vmcall_answer(struct vmcall *vmcall, Cpu *cpu);

#endif
