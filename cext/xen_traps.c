/* Ways between guest user, guest kernel and hypervisor: hypercalls, exceptions, event upcalls, and iret. */
#include "xen.h"
#include "flags.h"

#include <string.h>

/* RFLAGS that entering a handler clears (SDM vol. 3, 6.12.1), and AC: the kernel starts without alignment checks. */
#define CLEARED_ON_ENTRY ((uint64_t)(FL_AC | FL_VM | FL_RF | FL_NT | FL_TF))
/* RFLAGS that the choice of TLB and decoding mode depends on. */
#define MODE_FLAGS ((uint64_t)(FL_AC | FL_TF))

void set_rflags(struct domain *d, uint64_t flags)
{
    Cpu *cpu = d->cpu;
    uint64_t changed = cpu->rflags ^ flags;
    write_rflags(cpu, flags);
    if (changed & MODE_FLAGS)
        hvmx_core->update_mode(cpu);
}

/* Between the kernel and the user of the guest: both run at ring 3, on page tables and GS bases of their own. */
void toggle_mode(struct domain *d)
{
    Cpu *cpu = d->cpu;
    uint64_t gs = cpu->seg[SEG_GS].base;
    cpu->seg[SEG_GS].base = cpu->kernel_gs_base;
    cpu->kernel_gs_base = gs;
    d->in_kernel ^= 1;
    load_page_tables(d);
    hvmx_core->flush_tlb(cpu, 0); /* the global pages, which both have, stay; kernel pages never are global */
}

enum { BOUNCE_ERROR = 1, BOUNCE_MASKS_EVENTS = 2 };
enum { TRAP_MASKS_EVENTS = 4 }; /* in trap_info.flags, above the privilege that INT n needs */

/* Enters the guest's kernel at `handler` with a frame on its stack: rcx, r11, [error], rip, cs and the saved event mask,
 * rflags, rsp, ss. A guest whose handler or stack is not there crashes. */
static void bounce(struct domain *d, uint64_t handler, uint32_t error, int flags, const char *what)
{
    Cpu *cpu = d->cpu;
    uint64_t frame[8];
    uint32_t size = 0;
    uint64_t cs = cpu->seg[SEG_CS].selector, ss = cpu->seg[SEG_SS].selector;
    uint64_t stack = cpu->r[REG_RSP];

    if (d->state)
        return;
    if (handler == 0) {
        domain_crash(d, "no handler is registered for %s (rip %#llx, error %#x, cr2 %#llx)", what,
                     (unsigned long long)cpu->rip, error, (unsigned long long)d->vcpu_info->arch.cr2);
        return;
    }
    if (d->in_kernel) {
        cs &= ~3ull; /* tells the kernel that it was itself interrupted */
    } else {
        toggle_mode(d);
        stack = d->kernel_sp;
    }
    stack &= ~15ull;
    if (stack > HYPERVISOR_VIRT_START && stack < HYPERVISOR_VIRT_END + sizeof frame) {
        domain_crash(d, "the stack for %s is in the hypervisor's range (rsp %#llx)", what, (unsigned long long)stack);
        return;
    }
    uint8_t mask = d->vcpu_info->evtchn_upcall_mask;
    uint64_t rflags = read_rflags(cpu);
    frame[size++] = cpu->r[REG_RCX];
    frame[size++] = cpu->r[REG_R8 + 3];
    if (flags & BOUNCE_ERROR)
        frame[size++] = error;
    frame[size++] = cpu->rip;
    frame[size++] = cs | (uint64_t)mask << 32;
    frame[size++] = (rflags & ~(uint64_t)(FL_IF | FL_IOPL)) | (mask ? 0 : FL_IF)
                    | (d->vm_assist >> VMASST_TYPE_architectural_iopl & 1 ? (uint64_t)d->iopl << 12 : 0);
    frame[size++] = cpu->r[REG_RSP];
    frame[size++] = ss;
    stack -= size * 8;
    if (guest_write(cpu, stack, frame, size * 8)) {
        domain_crash(d, "no stack for %s (rip %#llx, rsp %#llx)", what, (unsigned long long)cpu->rip,
                     (unsigned long long)stack);
        return;
    }
    if (flags & BOUNCE_MASKS_EVENTS)
        d->vcpu_info->evtchn_upcall_mask = 1;
    load_code_segment(d, FLAT_KERNEL_CS64);
    load_stack_segment(d, FLAT_KERNEL_SS);
    set_rflags(d, rflags & ~CLEARED_ON_ENTRY);
    cpu->r[REG_RSP] = stack;
    cpu->rip = handler;
    charge_fraction(cpu, cpu->pv_bounce_cost);
}

/* --- exceptions ------------------------------------------------------------------------------------------------------ */
static const char *const vector_names[20] = {
    "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "vector 9", "#TS", "#NP", "#SS", "#GP", "#PF",
    "vector 15", "#MF", "#AC", "#MC", "#XM" };
#define VECTORS_WITH_ERROR (1u << VEC_DF | 1u << VEC_TS | 1u << VEC_NP | 1u << VEC_SS | 1u << VEC_GP | 1u << VEC_PF \
                            | 1u << VEC_AC)

static void enter_trap(struct domain *d, uint32_t vector, uint32_t error, int flags)
{
    const struct trap_info *trap = &d->traps[vector];
    if (trap->flags & TRAP_MASKS_EVENTS)
        flags |= BOUNCE_MASKS_EVENTS;
    bounce(d, trap->address, error, flags, vector < 20 ? vector_names[vector] : "a software interrupt");
}

/* SYSENTER, which without MSRs of its own is #GP(0), goes to the guest's kernel where that has registered for it. The
 * processor keeps neither place nor stack of who executed it. */
static int sysenter(struct domain *d)
{
    static const uint8_t instruction[2] = { 0x0f, 0x34 };
    Cpu *cpu = d->cpu;
    uint8_t bytes[sizeof instruction];
    uint64_t place = cpu->seg[SEG_CS].access & AR_L ? cpu->rip : (uint32_t)(cpu->seg[SEG_CS].base + cpu->rip);
    if (d->sysenter_callback == 0 || (cpu->rflags & FL_NT) || guest_read(cpu, bytes, place, sizeof bytes)
        || memcmp(bytes, instruction, sizeof bytes))
        return 0;
    set_rflags(d, read_rflags(cpu) & ~(uint64_t)FL_TF); /* the trap is the hypervisor's */
    cpu->rip = cpu->r[REG_RSP] = 0;
    cpu->seg[SEG_CS].selector = 3;
    cpu->seg[SEG_SS].selector = FLAT_USER_SS;
    bounce(d, d->sysenter_callback, 0, d->sysenter_masks_events ? BOUNCE_MASKS_EVENTS : 0, "SYSENTER");
    return 1;
}

int xen_exception(Cpu *cpu, uint32_t vector, uint32_t error, uint64_t cr2)
{
    struct domain *d = cpu->pv;
    int ended_write = d->page_write.entry != NULL; /* whose instruction is not tried twice */
    if (UNLIKELY(ended_write) && page_write_end(d, &vector, &error, &cr2))
        return 0;
    if (UNLIKELY(d->dropping_count) && vector == VEC_PF) { /* it may be about a frame that is still in use as a table */
        d->work = 0;
        drop_tables(d);
        if (d->dropping_count) /* the instruction is executed again */
            return 0;
    }
    if (vector == VEC_UD && forced_cpuid(d))
        return 0;
    if (vector == VEC_GP && error == 0 && sysenter(d))
        return 0;
    if (vector == VEC_GP && (error & 2)) { /* INT n: 2 bytes long */
        uint32_t number = error >> 3 & 255;
        if ((d->traps[number].flags & 3) >= (d->in_kernel ? 1 : 3)) {
            cpu->rip += 2;
            enter_trap(d, number, 0, 0);
            return 0;
        }
    }
    if (vector == VEC_PF) {
        if (ldt_fault(d, &cr2) || (!ended_write && page_write_begin(d, error, cr2))) /* the instruction is executed again */
            return 0;
        d->vcpu_info->arch.cr2 = cr2;
        error = (error & ~4u) | (d->in_kernel ? 0 : 4);
    }
    if (vector == VEC_NM)
        cpu->cr0 &= ~(uint64_t)CR0_TS;
    enter_trap(d, vector & 255, error, vector < 32 && (VECTORS_WITH_ERROR >> vector & 1) ? BOUNCE_ERROR : 0);
    return 0;
}

int deliver_event(struct domain *d)
{
    if (d->state || !event_deliverable(d) || d->page_write.entry)
        return 0;
    d->cpu->interrupts++;
    bounce(d, d->event_callback, 0, BOUNCE_MASKS_EVENTS, "an event");
    return 1;
}

/* An NMI that the domain has sent itself: it waits until the return from the one before, and is lost without a handler. */
static void deliver_nmi(struct domain *d)
{
    if (!d->nmi_pending || d->in_nmi)
        return;
    d->nmi_pending = 0;
    if (d->traps[VEC_NMI].address == 0)
        return;
    d->in_nmi = 1;
    enter_trap(d, VEC_NMI, 0, 0);
}

/* --- SYSCALL --------------------------------------------------------------------------------------------------------- */
/* From guest user mode: a system call, which goes to the guest's kernel. */
static int system_call(struct domain *d)
{
    Cpu *cpu = d->cpu;
    if (d->syscall_callback == 0) {
        cpu->rip -= 2;
        xen_exception(cpu, VEC_UD, 0, 0);
        return 1;
    }
    bounce(d, d->syscall_callback, 0, d->syscall_masks_events ? BOUNCE_MASKS_EVENTS : 0, "a system call");
    set_rflags(d, read_rflags(cpu) & ~(uint64_t)FL_DF);
    if (event_deliverable(d))
        deliver_event(d);
    return !!cpu->pending;
}

/* A list was too long for one call: the registers are those of a call for the rest, and the SYSCALL is made again. */
static void call_again(struct domain *d, uint64_t number)
{
    static const uint8_t registers[6] = { REG_RDI, REG_RSI, REG_RDX, REG_R8 + 2, REG_R8, REG_R8 + 1 };
    Cpu *cpu = d->cpu;
    for (int i = 0; i < 6; i++)
        cpu->r[registers[i]] = d->call.args[i];
    cpu->r[REG_RAX] = number;
    cpu->rip -= 2;
    cpu->pending |= PEND_BUDGET; /* to the run loop, which looks at the limits */
    d->preempted = 0;
}

/* A function in Python raised, or injected an exception: as before the instruction. */
struct before {
    int64_t acct;
    uint64_t rcx, r11;
};
static void take_back(Cpu *cpu, const Op *op, struct hypercall_entry *entry, const struct before *before)
{
    if (cpu->fault == FAULT_ABORT) {
        entry->count--;
        cpu->hypercalls--;
    }
    cpu->acct = before->acct + (int64_t)(op - 1)->acct;
    cpu->rip = op->ip;
    cpu->r[REG_RCX] = before->rcx;
    cpu->r[REG_R8 + 3] = before->r11;
}

int xen_hypercall(Cpu *cpu, Op *op)
{
    struct domain *d = cpu->pv;
    struct hvmx_hypercall *call = &d->call;
    uint64_t number = cpu->r[REG_RAX];
    struct hypercall_entry *entry = table_entry(&d->table, number);
    struct before before = { cpu->acct, cpu->r[REG_RCX], cpu->r[REG_R8 + 3] };

    cpu->rip = op->ip + op->len;
    cpu->r[REG_RCX] = cpu->rip;
    cpu->r[REG_R8 + 3] = read_rflags(cpu);
    if (UNLIKELY(!d->in_kernel)) {
        cpu->acct += (int64_t)op->acct;
        return system_call(d);
    }
    cpu->hypercalls++;
    cpu->acct += (int64_t)(op->acct + ((uint64_t)(cpu->hypercall_cost + entry->cost) << ACCT_SHIFT));
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
            entry->count++; /* as any call that is preempted */
            call_again(d, number);
            return 1;
        }
    }
    uint64_t result = entry_call(entry, call, number);
    if (UNLIKELY(d->preempted)) {
        call_again(d, number);
        return 1;
    }
    if (UNLIKELY(cpu->fault)) {
        take_back(cpu, op, entry, &before);
        return 1;
    }
    cpu->r[REG_RAX] = result;
    if (UNLIKELY(d->nmi_pending))
        deliver_nmi(d);
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
    if (call != &d->call) /* one within another */
        return -XEN_EINVAL;
    if (!is_guest_address(list))
        return -XEN_EFAULT;
    for (uint32_t index = 0; index < count; index++, list += sizeof(struct multicall_entry)) {
        struct multicall_entry entry;
        if (guest_read(d->cpu, &entry, list, sizeof entry))
            return -XEN_EFAULT;
        struct hvmx_hypercall inner = *call;
        memcpy(inner.args, entry.args, sizeof entry.args);
        struct hypercall_entry *function = table_entry(&d->table, entry.op == __HYPERVISOR_iret ? ~0ull : entry.op);
        int64_t acct = d->cpu->acct;
        charge_fraction(d->cpu, function->cost);
        entry.result = entry_call(function, &inner, entry.op);
        int again = d->preempted;
        if (UNLIKELY(d->cpu->fault && !again)) { /* this element did not happen: the list goes on with it */
            d->cpu->acct = acct;
            function->count -= d->cpu->fault == FAULT_ABORT;
            call->args[0] = list;
            call->args[1] = count - index;
            d->preempted = index > 0;
            return 0;
        }
        if (again) { /* the rest of this element comes first when the list goes on */
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

/* What IRETQ checks of where it is to go (SDM vol. 2, IRET), and loads: 0, or the fault. */
static uint32_t load_context(struct domain *d, const struct iret_context *context, uint32_t *error)
{
    uint16_t cs = (uint16_t)context->cs | 3, ss = (uint16_t)context->ss | 3;
    const Segment *code = &d->cpu->seg[SEG_CS];
    uint32_t vector = load_code_segment(d, cs);
    *error = cs & ~3u;
    if (vector)
        return vector;
    vector = load_stack_segment(d, ss);
    *error = ss & ~3u;
    if (vector)
        return vector;
    *error = 0;
    return (code->access & AR_L ? !is_canonical(context->rip) : context->rip > code->limit) ? VEC_GP : 0;
}

/* iret(): the context is on the kernel's stack. As under Xen, the guest gets a fault in the return itself as if it were one
 * of the instruction that it returns to. */
int64_t xen_iret(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    Cpu *cpu = d->cpu;
    struct iret_context context;
    if (guest_read(cpu, &context, cpu->r[REG_RSP], sizeof context)) {
        domain_crash(d, "iret without a stack (rsp %#llx)", (unsigned long long)cpu->r[REG_RSP]);
        return 0;
    }
    if ((context.cs & 3) == 3) {
        if (d->user_table == 0) {
            domain_crash(d, "iret to user mode without page tables for it");
            return 0;
        }
        toggle_mode(d);
    }
    d->in_nmi = 0;
    if (d->vm_assist >> VMASST_TYPE_architectural_iopl & 1)
        d->iopl = context.rflags >> 12 & 3;
    d->vcpu_info->evtchn_upcall_mask = !(context.rflags & FL_IF);
    uint64_t flags = (context.rflags & 0x3f7fd7 & ~(uint64_t)(FL_IOPL | FL_VM | FL_VIF | FL_VIP)) | FL_IF;
    set_rflags(d, flags);
    cpu->rip = context.rip;
    cpu->r[REG_RSP] = context.rsp;
    cpu->r[REG_RAX] = context.rax;
    int by_sysret = !!(context.flags & VGCF_in_syscall);
    cpu->r[REG_RCX] = by_sysret ? context.rip : context.rcx;
    cpu->r[REG_R8 + 3] = by_sysret ? flags : context.r11;
    if (by_sysret && is_canonical(context.rip)) { /* SYSRET, to 64 bits unless 32 are asked for by their selector */
        int compatible = ((uint16_t)context.cs | 3) == FLAT_RING3_CS32;
        if (compatible)
            cpu->rip = (uint32_t)context.rip;
        load_code_segment(d, compatible ? FLAT_RING3_CS32 : FLAT_USER_CS64);
        load_stack_segment(d, FLAT_USER_SS);
        return (int64_t)context.rax;
    }
    uint32_t error, vector = load_context(d, &context, &error);
    if (vector) {
        cpu->seg[SEG_CS].selector = (uint16_t)context.cs | 3;
        cpu->seg[SEG_SS].selector = (uint16_t)context.ss | 3;
        enter_trap(d, vector, error, BOUNCE_ERROR);
    }
    return (int64_t)context.rax;
}

/* --- registration ---------------------------------------------------------------------------------------------------- */
/* set_trap_table(*traps): ends at an entry without an address; no table at all removes every handler. */
int64_t xen_set_trap_table(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    if (call->args[0] == 0) {
        memset(d->traps, 0, sizeof d->traps);
        return 0;
    }
    for (;;) {
        struct trap_info trap;
        if (guest_read(d->cpu, &trap, call->args[0], sizeof trap))
            return -XEN_EFAULT;
        if (trap.address == 0)
            return 0;
        if (!is_canonical(trap.address))
            return -XEN_EINVAL;
        trap.cs |= 3;
        d->traps[trap.vector] = trap;
        call->args[0] += sizeof trap;
        if (preempt_after(d)) {
            d->preempted = 1;
            return 0;
        }
    }
}

/* stack_switch(ss, rsp) */
int64_t xen_stack_switch(struct hvmx_hypercall *call)
{
    domain_of(call)->kernel_sp = call->args[1];
    return 0;
}

static int64_t register_callback(struct domain *d, uint32_t type, uint32_t flags, uint64_t address)
{
    uint8_t masks = !!(flags & CALLBACKF_mask_events);
    if (!is_canonical(address))
        return -XEN_EINVAL;
    switch (type) {
    case CALLBACKTYPE_event:
        d->event_callback = address;
        return 0;
    case CALLBACKTYPE_failsafe: /* for segments that fail to load when a processor is switched to; it never is */
        return 0;
    case CALLBACKTYPE_syscall:
        d->syscall_callback = address;
        d->syscall_masks_events = masks;
        return 0;
    case CALLBACKTYPE_syscall32: /* on Intel's processors SYSCALL in compatibility mode is #UD, under Xen too */
        return 0;
    case CALLBACKTYPE_sysenter:
        d->sysenter_callback = address;
        d->sysenter_masks_events = masks;
        return 0;
    case CALLBACKTYPE_nmi:
        d->traps[VEC_NMI] = (struct trap_info){ VEC_NMI, TRAP_MASKS_EVENTS, FLAT_KERNEL_CS64, address };
        return 0;
    default:
        return -XEN_ENOSYS;
    }
}

static int64_t unregister_callback(struct domain *d, uint32_t type)
{
    switch (type) {
    case CALLBACKTYPE_nmi:
        d->traps[VEC_NMI] = (struct trap_info){ 0 };
        return 0;
    case CALLBACKTYPE_event: /* these may only be replaced */
    case CALLBACKTYPE_failsafe:
    case CALLBACKTYPE_syscall:
    case CALLBACKTYPE_sysenter:
    case CALLBACKTYPE_syscall32:
        return -XEN_EINVAL;
    default:
        return -XEN_ENOSYS;
    }
}

/* callback_op(command, *argument) */
int64_t xen_callback_op(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    struct callback_register reg;
    struct callback_unregister unreg;
    switch (arg32(call, 0)) {
    case CALLBACKOP_register:
        if (guest_read(d->cpu, &reg, call->args[1], sizeof reg))
            return -XEN_EFAULT;
        return register_callback(d, reg.type, reg.flags, reg.address);
    case CALLBACKOP_unregister:
        if (guest_read(d->cpu, &unreg, call->args[1], sizeof unreg))
            return -XEN_EFAULT;
        return unregister_callback(d, unreg.type);
    default:
        return -XEN_ENOSYS;
    }
}

/* set_callbacks(event, failsafe, syscall): one that is not canonical is left as it was, without a word. */
int64_t xen_set_callbacks(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    register_callback(d, CALLBACKTYPE_event, 0, call->args[0]);
    register_callback(d, CALLBACKTYPE_failsafe, 0, call->args[1]);
    register_callback(d, CALLBACKTYPE_syscall, 0, call->args[2]);
    return 0;
}
