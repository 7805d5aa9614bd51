/* The two modes of a PV guest at ring 3, kernel and user, and RFLAGS as its processor has them. */
#include "mode.h"

#include "flags.h"

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

void load_page_tables(struct domain *d)
{
    d->cpu->cr3 = (d->in_kernel ? d->kernel_table : d->user_table) << 12;
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
