/* Writes to page tables by ordinary instructions (VMASST_TYPE_writable_pagetables; Xen: ptwr_do_page_fault).
 *
 * A kernel that has asked for this, or that of a dom0, may write to a level 1 table that it has mapped read-only. At the page
 * fault the mapping is made writable for one instruction, after which the trap flag stops. Its write is then reverted, and the
 * entry that it changed is written again with the checks of mmu_update. If that is refused, or more than one entry changed, the
 * instruction is undone and the guest gets the page fault. */
#include "ptwr.h"

#include "flags.h"
#include "frames.h"
#include "instruction.h"
#include "mode.h"
#include "ports.h"

#include <string.h>

enum { ERROR_PRESENT = 1, ERROR_WRITE = 2, ERROR_RESERVED = 8, ERROR_FETCH = 16 };

/* Whether an instruction writes to memory once, in its last access: then nothing that it reads was translated through the entry
 * that it writes, unchecked as that is. */
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
    case FAM_CMPXCHG8B: /* not CMPXCHG16B, which writes two entries */
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

/* Looks at a page fault of the kernel. 1: the mapping is writable now, and the instruction is to be executed again. */
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

/* Handles the next exception after page_write_begin(): the instruction's #DB, or a fault that it ended in. 1: that was all.
 * 0: the exception is to be delivered, or (in *vector, *error and *cr2) the page fault instead. */
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
    cpu->dr[6] = w->dr6; /* Xen emulates the instruction, which neither changes DR6 nor hits breakpoints */
    set_rflags(d, (read_rflags(cpu) & ~(uint64_t)FL_TF) | (w->rflags & FL_TF));
    if (event_deliverable(d))
        cpu->pending |= PEND_EVENT;
    int own_trap = !!(w->rflags & FL_TF); /* the guest has set the trap flag itself */
    for (uint32_t index = 0; index < 512; index++)
        if (after[index] != d->page_before[index]) {
            last = index;
            changed++;
        }
    if (done && changed) {
        charge(cpu, CHARGE_UPDATE, d->update_cost);
        refused = changed > 1 || set_entry(d, w->table, last, after[last], 0);
    }
    if (done && (refused || !own_trap)) { /* the #DB was ours, not the guest's: it does not count */
        cpu->exceptions--;
        take_back_charge(cpu, CHARGE_EXCEPTION, cpu->exception_cost);
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
