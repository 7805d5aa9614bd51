/* Exceptions, the way back by iret, and the hypercalls by which a kernel registers its handlers. */
#include "traps.h"

#include "addresses.h"
#include "bounce.h"
#include "descriptors.h"
#include "emulate.h"
#include "flags.h"
#include "frames.h"
#include "instruction.h"
#include "mode.h"
#include "ptwr.h"

#include <string.h>

/* --- exceptions ------------------------------------------------------------------------------------------------------ */
#define VECTORS_WITH_ERROR (1u << VEC_DF | 1u << VEC_TS | 1u << VEC_NP | 1u << VEC_SS | 1u << VEC_GP | 1u << VEC_PF \
                            | 1u << VEC_AC)

/* SYSENTER raises #GP(0), as its MSRs are 0. If the guest's kernel has registered a callback for it, it is entered there. As on
 * the processor, RIP and RSP of the caller are lost. */
static int sysenter(struct domain *d)
{
    static const uint8_t instruction[2] = { 0x0f, 0x34 };
    Cpu *cpu = d->cpu;
    uint8_t bytes[sizeof instruction];
    if (d->sysenter_callback == 0 || (cpu->rflags & FL_NT)
        || guest_read(cpu, bytes, instruction_address(cpu, cpu->rip), sizeof bytes)
        || memcmp(bytes, instruction, sizeof bytes))
        return 0;
    set_rflags(d, read_rflags(cpu) & ~(uint64_t)FL_TF); /* the guest gets no #DB for SYSENTER */
    cpu->rip = cpu->r[REG_RSP] = 0;
    cpu->seg[SEG_CS].selector = 3;
    cpu->seg[SEG_SS].selector = FLAT_USER_SS;
    bounce(d, CHARGE_BOUNCED_CALL, d->sysenter_callback, 0, d->sysenter_masks_events ? BOUNCE_MASKS_EVENTS : 0,
           "SYSENTER");
    return 1;
}

/* Delivers what emulation has raised. Left to the run loop, a #GP would only have the instruction emulated again. */
static void deliver_emulated_fault(struct domain *d)
{
    struct emulated_fault fault = d->emulated_fault;
    d->emulated_fault.due = 0;
    if (fault.due)
        xen_exception(d->cpu, fault.vector, fault.error, fault.cr2);
}

int xen_exception(Cpu *cpu, uint32_t vector, uint32_t error, uint64_t cr2)
{
    struct domain *d = cpu->pv;
    int ended_write = d->page_write.entry != NULL; /* its instruction is not tried a second time */
    if (UNLIKELY(ended_write) && page_write_end(d, &vector, &error, &cr2))
        return 0;
    if (UNLIKELY(d->dropping_count) && vector == VEC_PF) { /* it may be about a frame that is still in use as a table */
        d->work = 0;
        drop_tables(d);
        if (d->dropping_count) /* the instruction is executed again */
            return 0;
    }
    if (vector == VEC_UD && forced_cpuid(d)) {
        deliver_emulated_fault(d);
        return 0;
    }
    if (vector == VEC_GP && error == 0 && sysenter(d))
        return 0;
    if (vector == VEC_GP && (error & 2)) { /* INT n: 2 bytes long */
        uint32_t number = error >> 3 & 255;
        if ((d->traps[number].flags & 3) >= (d->in_kernel ? 1 : 3)) {
            cpu->rip += 2;
            enter_trap(d, number, 0, BOUNCE_SOFTWARE);
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

/* The hook for privileged instructions. */
int xen_privileged(Cpu *cpu, uint64_t ip)
{
    int refused = emulate_privileged(cpu->pv, ip);
    deliver_emulated_fault(cpu->pv);
    return refused;
}

/* The hook for PEND_EVENT. */
int xen_event(Cpu *cpu)
{
    cpu->pending &= ~(uint32_t)PEND_EVENT;
    deliver_event(cpu->pv);
    return 0;
}

/* --- iret ------------------------------------------------------------------------------------------------------------ */
/* Loads CS and SS and checks RIP as IRETQ does (SDM vol. 2, IRET). 0, or the vector of the fault. */
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

/* iret(): returns to the context on the kernel's stack. As under Xen, a fault in the return itself is delivered like one of the
 * instruction that it returns to. */
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
    if (by_sysret && is_canonical(context.rip)) { /* like SYSRET: to 64-bit code, unless CS is Xen's 32-bit code segment */
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
/* set_trap_table(*traps): the table ends at an entry with address 0; a null pointer removes all handlers. */
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
    case CALLBACKTYPE_failsafe: /* for segments that fail to load in a context switch, which never happens here */
        return 0;
    case CALLBACKTYPE_syscall:
        d->syscall_callback = address;
        d->syscall_masks_events = masks;
        return 0;
    case CALLBACKTYPE_syscall32: /* never used: on Intel processors SYSCALL in compatibility mode is #UD, under Xen too */
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
    case CALLBACKTYPE_event: /* these can only be replaced */
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

/* set_callbacks(event, failsafe, syscall): a non-canonical address is silently ignored. */
int64_t xen_set_callbacks(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    register_callback(d, CALLBACKTYPE_event, 0, call->args[0]);
    register_callback(d, CALLBACKTYPE_failsafe, 0, call->args[1]);
    register_callback(d, CALLBACKTYPE_syscall, 0, call->args[2]);
    return 0;
}
