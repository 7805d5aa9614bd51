/* Writes to page tables by ordinary instructions (VMASST_TYPE_writable_pagetables; Xen: ptwr_do_page_fault).
 *
 * A kernel that asked for this, or is a dom0's, may write to a table of level 1 that it has mapped read-only. The
 * fault opens the page for one instruction, which the trap flag ends; what it wrote is taken back, and the changed entry is
 * set anew with the checks of mmu_update. Where that is refused, or more than one changed, the instruction is undone and the
 * guest gets the fault. */
#include "ptwr.h"

#include "flags.h"
#include "frames.h"
#include "instruction.h"
#include "mode.h"
#include "ports.h"

#include <string.h>

enum { ERROR_PRESENT = 1, ERROR_WRITE = 2, ERROR_RESERVED = 8, ERROR_FETCH = 16 };

/* Whether an instruction writes to memory with its last access and no other: so that nothing that it reads can come by
 * way of what it has written. */
static int writes_once(struct domain *d, uint64_t ip)
{
    Insn insn;
    if (!fetch(d, ip, &insn))
        return 0;
    switch (insn.family) {
    case FAM_MOVS:
    case FAM_STOS:
        return 1;
    case FAM_ADD:
    case FAM_OR:
    case FAM_ADC:
    case FAM_SBB:
    case FAM_AND:
    case FAM_SUB:
    case FAM_XOR:
    case FAM_NOT:
    case FAM_NEG:
    case FAM_INC:
    case FAM_DEC:
    case FAM_MOV:
    case FAM_MOVNTI:
    case FAM_XCHG:
    case FAM_XADD:
    case FAM_CMPXCHG:
    case FAM_CMPXCHG8B: /* CMPXCHG16B is of two entries */
    case FAM_BTS:
    case FAM_BTR:
    case FAM_BTC:
        return insn.is_mem && insn.form != FORM_R_RM;
    default:
        return 0;
    }
}

static void set_writable(struct domain *d, int writable)
{
    struct page_write *w = &d->page_write;
    page_changes(d->cpu, (uint64_t)((uint8_t *)w->entry - d->cpu->ram) >> 12);
    *w->entry = writable ? *w->entry | PTE_RW : *w->entry & ~(uint64_t)PTE_RW;
    hvmx_core->flush_page(d->cpu, w->address);
}

/* A page fault of the kernel's. 1: the instruction that made it is to be executed again. */
int page_write_begin(struct domain *d, uint32_t error, uint64_t address)
{
    Cpu *cpu = d->cpu;
    struct page_write *w = &d->page_write;
    const uint32_t kinds = ERROR_PRESENT | ERROR_WRITE | ERROR_RESERVED | ERROR_FETCH;
    int allowed = (d->vm_assist >> VMASST_TYPE_writable_pagetables & 1) || (d->flags & SIF_INITDOMAIN);
    if (!allowed || !d->in_kernel || w->entry || (error & kinds) != (ERROR_PRESENT | ERROR_WRITE))
        return 0;
    uint64_t granted, l1 = level1_table(d, d->kernel_table, address, &granted);
    uint64_t *entry = (uint64_t *)frame_memory(d, l1) + (address >> 12 & 511);
    if (l1 == 0 || !(granted & PTE_RW) || (*entry & (PTE_P | PTE_RW)) != PTE_P || !writes_once(d, cpu->rip))
        return 0;
    uint64_t table = (*entry & PTE_FRAME) >> 12;
    if (table >= d->frame_count || d->frames[table].owner != OWNER_DOMAIN || d->frames[table].type != FRAME_L1
        || !d->frames[table].type_refs)
        return 0;
    *w = (struct page_write){ .entry = entry, .address = address, .error = error, .table = table, .rip = cpu->rip,
                              .rflags = read_rflags(cpu), .dr6 = cpu->dr[6] };
    memcpy(w->registers, cpu->r, sizeof w->registers);
    set_writable(d, 1);
    memcpy(d->page_before, frame_memory(d, table), sizeof d->page_before);
    set_rflags(d, w->rflags | FL_TF);
    charge_emulation(cpu);
    return 1;
}

/* The next exception after page_write_begin(), which is the trap of its instruction unless that did not come to its end.
 * 1: there is nothing more to it. 0: it is to be delivered, or the page fault in its place. */
int page_write_end(struct domain *d, uint32_t *vector, uint32_t *error, uint64_t *cr2)
{
    Cpu *cpu = d->cpu;
    struct page_write *w = &d->page_write;
    uint64_t *now = frame_memory(d, w->table), after[512];
    int done = *vector == VEC_DB, refused = 0;
    uint32_t changed = 0, last = 0;
    memcpy(after, now, sizeof after);
    page_changes(cpu, w->table);
    memcpy(now, d->page_before, sizeof d->page_before);
    set_writable(d, 0);
    w->entry = NULL;
    cpu->dr[6] = w->dr6; /* what Xen emulates leaves no trace in it, and meets no breakpoints */
    set_rflags(d, (read_rflags(cpu) & ~(uint64_t)FL_TF) | (w->rflags & FL_TF));
    if (event_deliverable(d))
        cpu->pending |= PEND_EVENT;
    int own_trap = !!(w->rflags & FL_TF); /* the guest's own, too */
    for (uint32_t index = 0; index < 512; index++)
        if (after[index] != d->page_before[index]) {
            last = index;
            changed++;
        }
    if (done && changed) {
        charge_fraction(cpu, d->update_cost);
        refused = changed > 1 || set_entry(d, w->table, last, after[last], 0);
    }
    if (done && (refused || !own_trap)) { /* a trap that is only of this way of emulating: it was none */
        cpu->exceptions--;
        cpu->acct -= (int64_t)((uint64_t)cpu->exception_cost << ACCT_SHIFT);
    }
    if (refused) {
        memcpy(cpu->r, w->registers, sizeof w->registers);
        set_rflags(d, w->rflags);
        cpu->rip = w->rip;
        *vector = VEC_PF;
        *error = w->error;
        *cr2 = w->address;
        return 0;
    }
    return done && !own_trap;
}
