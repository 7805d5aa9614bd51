/* Entering the guest's kernel at one of the handlers it has registered, with a frame on its stack. */
#include "bounce.h"

#include "descriptors.h"
#include "flags.h"
#include "mode.h"
#include "ports.h"
#include "timeline.h"

/* RFLAGS that are cleared on entry to a handler (SDM vol. 3, 6.12.1), and AC: the kernel starts without alignment checks. */
#define CLEARED_ON_ENTRY ((uint64_t)(FL_AC | FL_VM | FL_RF | FL_NT | FL_TF))

/* Enters the guest's kernel at `handler` with a frame on its stack: rcx, r11, [error], rip, cs and the saved event mask,
 * rflags, rsp, ss. A guest whose handler or stack is not there crashes. */
void bounce(struct domain *d, enum Charge kind, uint64_t handler, uint32_t error, int flags, const char *what)
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
        cs &= ~3ull; /* RPL 0 tells the kernel that it was running itself */
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
    charge(cpu, kind, cpu->pv_bounce_cost);
}

static const char *const vector_names[20] = {
    "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "vector 9", "#TS", "#NP", "#SS", "#GP", "#PF",
    "vector 15", "#MF", "#AC", "#MC", "#XM" };

void enter_trap(struct domain *d, uint32_t vector, uint32_t error, int flags)
{
    const struct trap_info *trap = &d->traps[vector];
    if (trap->flags & TRAP_MASKS_EVENTS)
        flags |= BOUNCE_MASKS_EVENTS;
    bounce(d, CHARGE_BOUNCED_EXCEPTION, trap->address, error, flags, vector < 20 ? vector_names[vector] : "a software interrupt");
    if (!d->state)
        note_entry(d->cpu, flags & BOUNCE_SOFTWARE ? SPAN_SOFTWARE_INTERRUPT : vector == VEC_NMI ? SPAN_INTERRUPT : SPAN_EXCEPTION,
                   vector, vector == VEC_PF ? d->vcpu_info->arch.cr2 : error);
}

int deliver_event(struct domain *d)
{
    if (d->state || !event_deliverable(d) || d->page_write.entry)
        return 0;
    d->cpu->interrupts++;
    bounce(d, CHARGE_BOUNCED_EVENT, d->event_callback, 0, BOUNCE_MASKS_EVENTS, "an event");
    if (!d->state)
        note_entry(d->cpu, SPAN_UPCALL, 0, 0);
    return 1;
}

/* Delivers an NMI that the domain has sent itself. It waits while another is being handled, and is lost if there is no
 * handler. */
void deliver_nmi(struct domain *d)
{
    if (!d->nmi_pending || d->in_nmi)
        return;
    d->nmi_pending = 0;
    if (d->traps[VEC_NMI].address == 0)
        return;
    d->in_nmi = 1;
    enter_trap(d, VEC_NMI, 0, 0);
}
