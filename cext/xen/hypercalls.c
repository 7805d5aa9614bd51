/* SYSCALL of a PV guest: from its kernel a hypercall (or a list of them), from its user mode a system call. */
#include "hypercalls.h"

#include "addresses.h"
#include "bounce.h"
#include "flags.h"
#include "frames.h"
#include "mode.h"
#include "ports.h"
#include "timeline.h"
#include "traps.h"

#include <string.h>

/* SYSCALL in guest user mode: enters the guest's kernel. */
static int system_call(struct domain *d)
{
    Cpu *cpu = d->cpu;
    if (d->syscall_callback == 0) {
        cpu->rip -= 2;
        xen_exception(cpu, VEC_UD, 0, 0);
        return 1;
    }
    bounce(d, CHARGE_BOUNCED_CALL, d->syscall_callback, 0, d->syscall_masks_events ? BOUNCE_MASKS_EVENTS : 0,
           "a system call");
    set_rflags(d, read_rflags(cpu) & ~(uint64_t)FL_DF);
    if (event_deliverable(d))
        deliver_event(d);
    return !!cpu->pending;
}

/* The list was too long for one call: sets the registers to a call for the rest of it, and has the SYSCALL executed again. */
static void call_again(struct domain *d, uint64_t number)
{
    static const uint8_t registers[6] = { REG_RDI, REG_RSI, REG_RDX, REG_R8 + 2, REG_R8, REG_R8 + 1 };
    Cpu *cpu = d->cpu;
    for (int i = 0; i < 6; i++)
        cpu->r[registers[i]] = d->call.args[i];
    cpu->r[REG_RAX] = number;
    cpu->rip -= 2;
    cpu->pending |= PEND_BUDGET; /* to the run loop, which checks the limits */
    d->preempted = 0;
}

/* What SYSCALL changes before the call is made; and the accounting up to its end, without what the call costs. */
struct before {
    int64_t acct;
    uint64_t rcx, r11;
};

/* A call has just ended that took so much; one that is taken back has not been. */
static void note_call(Cpu *cpu, uint64_t number, uint64_t units)
{
    if (cpu->timeline != NULL && (!cpu->fault || ((const struct domain *)cpu->pv)->preempted))
        note_span(cpu, SPAN_HYPERCALL, (uint32_t)number, 0, guest_time(cpu) - units);
}

/* A function in Python raised or injected an exception: restores the state before the instruction. */
static void take_back(Cpu *cpu, Op *op, struct call_tally *tally, struct before before)
{
    tally_take_back(tally, cpu->fault == FAULT_ABORT);
    cpu->charged[CHARGE_HYPERCALL].count--;
    take_back_charges(cpu, &((struct domain *)cpu->pv)->table.before);
    cpu->acct = before.acct;
    cpu->take_back(cpu, op);
    cpu->rip = op->ip;
    cpu->r[REG_RCX] = before.rcx;
    cpu->r[REG_R8 + 3] = before.r11;
}

/* The tally of a call that is to be made. */
static inline struct call_tally *tally_before(struct hypercall_entry *entry, const struct hvmx_hypercall *call)
{
    return tally_of(entry, (uint32_t)call->args[0]);
}

/* Now it is known what it was: the call goes to that tally. */
static struct call_tally *tally_after(const struct domain *d, struct hypercall_entry *entry, struct call_tally *tally)
{
    tally->calls--;
    tally = tally_of(entry, d->command);
    tally->calls++;
    return tally;
}

int xen_hypercall(Cpu *cpu, Op *op)
{
    struct domain *d = cpu->pv;
    struct hvmx_hypercall *call = &d->call;
    uint64_t number = cpu->r[REG_RAX];
    struct hypercall_entry *entry = table_entry(&d->table, number);
    struct before before = { 0, cpu->r[REG_RCX], cpu->r[REG_R8 + 3] };

    cpu->rip = op->ip + op->len;
    cpu->r[REG_RCX] = cpu->rip;
    cpu->r[REG_R8 + 3] = read_rflags(cpu);
    account(cpu, op);
    before.acct = cpu->acct;
    if (UNLIKELY(!d->in_kernel))
        return system_call(d);
    cpu->charged[CHARGE_HYPERCALL].count++; /* that is all: its price is always the same, and this the fast path */
    cpu->acct += (int64_t)((uint64_t)cpu->hypercall_cost << ACCT_SHIFT);
    charge_call(cpu, entry, &d->table.before);
    d->work = 0;
    call->args[0] = cpu->r[REG_RDI];
    call->args[1] = cpu->r[REG_RSI];
    call->args[2] = cpu->r[REG_RDX];
    call->args[3] = cpu->r[REG_R8 + 2];
    call->args[4] = cpu->r[REG_R8];
    call->args[5] = cpu->r[REG_R8 + 1];
    if (UNLIKELY(d->dropping_count)) { /* whatever is asked for, it finds no frame in use that is not */
        drop_tables(d);
        if (d->dropping_count) {
            struct call_tally *others = tally_of(entry, entry->sub_operations);
            uint64_t units = charged_since(cpu, before.acct);
            others->calls++; /* as any call that is preempted */
            tally_add(others, units, 0);
            note_call(cpu, number, units);
            call_again(d, number);
            return 1;
        }
    }
    struct call_tally *tally = tally_before(entry, call);
    struct answer answer = entry_call(entry, tally, call, number);
    uint64_t units = charged_since(cpu, before.acct);
    if (UNLIKELY(answer.host_ns || cpu->timeline != NULL)) {
        note_call(cpu, number, units);
        if (entry->flags & ENTRY_LIST) {
            tally = tally_after(d, entry, tally);
            units -= number == __HYPERVISOR_multicall ? d->units_within : 0;
        }
    }
    tally_add(tally, units, answer.host_ns);
    if (UNLIKELY(d->attention | cpu->fault)) {
        if (d->preempted) {
            call_again(d, number);
            return 1;
        }
        if (cpu->fault) {
            take_back(cpu, op, tally, before);
            return 1;
        }
        cpu->r[REG_RAX] = answer.result;
        deliver_nmi(d);
    } else {
        cpu->r[REG_RAX] = answer.result;
    }
    if (UNLIKELY(event_deliverable(d)))
        deliver_event(d);
    return (cpu->pending | cpu->halted | cpu->stop_request) != 0;
}

/* multicall(list, count) */
int64_t xen_multicall(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    uint64_t list = call->args[0];
    uint32_t count = (uint32_t)call->args[1];
    if (call != &d->call) /* no multicall within a multicall */
        return -XEN_EINVAL;
    d->units_within = 0;
    if (!is_guest_address(list))
        return -XEN_EFAULT;
    for (uint32_t index = 0; index < count; index++, list += sizeof(struct multicall_entry)) {
        struct multicall_entry entry;
        if (guest_read(d->cpu, &entry, list, sizeof entry))
            return -XEN_EFAULT;
        struct hvmx_hypercall inner = *call;
        memcpy(inner.args, entry.args, sizeof entry.args);
        struct hypercall_entry *function = table_entry(&d->table, entry.op == __HYPERVISOR_iret ? ~0ull : entry.op);
        int64_t before = d->cpu->acct;
        struct charged_before charged_before = { 0 };
        charge_call(d->cpu, function, &charged_before);
        struct call_tally *tally = tally_before(function, &inner);
        struct answer answer = entry_call(function, tally, &inner, entry.op);
        entry.result = answer.result;
        int again = d->preempted;
        uint64_t units = charged_since(d->cpu, before);
        if (UNLIKELY(d->cpu->fault && !again)) { /* this element did not happen: the list is resumed with it */
            take_back_charges(d->cpu, &charged_before);
            d->cpu->acct = before;
            tally_take_back(tally, d->cpu->fault == FAULT_ABORT);
            call->args[0] = list;
            call->args[1] = count - index;
            d->preempted = index > 0;
            return 0;
        }
        note_call(d->cpu, entry.op, units);
        d->units_within += units;
        if (function->flags & ENTRY_LIST)
            tally = tally_after(d, function, tally);
        tally_add(tally, units, answer.host_ns);
        if (again) { /* the list is resumed with the rest of this element */
            memcpy(entry.args, inner.args, sizeof entry.args);
            entry.result = 0;
        }
        if (guest_write(d->cpu, list, &entry, sizeof entry))
            return -XEN_EFAULT;
        if (d->state)
            return 0;
        if (again || (preempt_after(d) && index + 1 < count)) {
            call->args[0] = list + (again ? 0 : sizeof entry);
            call->args[1] = count - index - (again ? 0 : 1);
            d->preempted = 1;
            return 0;
        }
    }
    return 0;
}
