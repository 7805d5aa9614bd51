/* The kernel and the user mode of a PV guest, both at ring 3, and its RFLAGS. */
#include "mode.h"

#include "flags.h"
#include "timeline.h"

/* The RFLAGS that TLB selection and mode of decoding depend on. */
#define MODE_FLAGS ((uint64_t)(FL_AC | FL_TF))

void set_rflags(struct domain *d, uint64_t flags)
{
    Cpu *cpu = d->cpu;
    uint64_t changed = cpu->rflags ^ flags;
    write_rflags(cpu, flags);
    if (changed & MODE_FLAGS)
        hvmx_core->update_mode(cpu);
}

void load_page_tables(struct domain *d)
{
    d->cpu->cr3 = (d->in_kernel ? d->kernel_table : d->user_table) << 12;
}

/* Switches between kernel and user mode, which have page tables and a GS base each. */
void toggle_mode(struct domain *d)
{
    Cpu *cpu = d->cpu;
    uint64_t gs = cpu->seg[SEG_GS].base;
    note_turn(cpu, guest_time(cpu));
    cpu->seg[SEG_GS].base = cpu->kernel_gs_base;
    cpu->kernel_gs_base = gs;
    d->in_kernel ^= 1;
    cpu->pv_privilege = d->in_kernel ? PRIVILEGE_PV_KERNEL : PRIVILEGE_PV_USER;
    load_page_tables(d);
    hvmx_core->flush_tlb(cpu, 0); /* global pages stay: both modes have them, and none is the kernel's */
}
