/* Changing page tables: mmu_update, update_va_mapping, mmuext_op, vm_assist. */
#include "mmu.h"

#include "addresses.h"
#include "descriptors.h"
#include "frames.h"
#include "mode.h"
#include "timeline.h"

#include <string.h>

/* Reads the count of a list. In a call that is resumed after preemption it carries a mark, and *pdone is how many were done
 * before: 0 if the guest has made that unreadable meanwhile. */
static int list_begin(struct domain *d, struct hvmx_hypercall *call, uint32_t *count, uint32_t *done)
{
    *count = (uint32_t)call->args[1];
    *done = 0;
    if (*count & MMU_UPDATE_PREEMPTED) {
        *count &= ~MMU_UPDATE_PREEMPTED;
        if (call->args[2] && guest_read(d->cpu, done, call->args[2], 4))
            *done = 0;
    }
    return is_guest_address(call->args[0]) ? 0 : -XEN_EFAULT;
}

/* Ends at element `index`: writes to *pdone how many are done, and has the call resumed for the rest; for none, too, while the
 * last one has tables to drop. An error in writing *pdone is ignored. */
static int64_t list_end(struct domain *d, struct hvmx_hypercall *call, uint32_t index, uint32_t count, uint32_t done,
                        uint64_t element, int64_t result)
{
    done += index;
    if (call->args[2])
        guest_write(d->cpu, call->args[2], &done, 4);
    if (result == UNFINISHED || (result == 0 && (index < count || d->dropping_count))) {
        if (index < count)
            call->args[0] += index * element;
        call->args[1] = (count - index) | MMU_UPDATE_PREEMPTED;
        d->preempted = 1;
        return 0;
    }
    return result;
}

/* An element of either list, and what carries one out: 0, an error, or UNFINISHED. */
union element {
    struct mmu_update update;
    struct mmuext_op op;
};
typedef int64_t (*carry_out)(struct domain *d, const union element *element);

/* Carries out a list from its beginning, until one fails or the call is to be preempted. */
static int64_t list_run(struct domain *d, struct hvmx_hypercall *call, uint32_t count, uint32_t done, uint64_t size, carry_out one)
{
    uint32_t index = 0;
    int64_t result = 0;
    while (index < count) {
        union element element;
        result = guest_read(d->cpu, &element, call->args[0] + index * size, size);
        if (!result)
            result = one(d, &element);
        drop_tables(d);
        if (result)
            break;
        index++;
        if (preempt_after(d))
            break;
    }
    return list_end(d, call, index, count, done, size, result);
}

static int pte_update(struct domain *d, uint64_t pointer, uint64_t value, int preserve_ad)
{
    uint64_t mfn = pointer >> 12;
    struct frame *frame = get_frame(d, mfn);
    if (frame == NULL)
        return -XEN_EINVAL;
    int error = -XEN_EINVAL;
    if (is_table(frame)) {
        error = set_entry(d, mfn, (pointer & 0xfff) >> 3, value, preserve_ad);
    } else if (get_frame_and_type(d, mfn, FRAME_WRITABLE) == 0) { /* not a page table: a plain write */
        page_changes(d->cpu, mfn);
        memcpy((uint8_t *)frame_memory(d, mfn) + (pointer & 0xff8), &value, 8);
        put_frame_and_type(d, mfn);
        error = 0;
    }
    put_frame(d, mfn);
    return error;
}

static int machphys_update(struct domain *d, uint64_t mfn, uint64_t pfn)
{
    if (get_frame(d, mfn) == NULL)
        return -XEN_EINVAL;
    d->m2p[mfn] = pfn;
    put_frame(d, mfn);
    return 0;
}

static int64_t one_update(struct domain *d, const union element *element)
{
    const struct mmu_update *update = &element->update;
    uint64_t command = update->ptr & (sizeof update->val - 1), place = update->ptr - command;
    switch (command) {
    case MMU_NORMAL_PT_UPDATE:
    case MMU_PT_UPDATE_NO_TRANSLATE:
        return pte_update(d, place, update->val, 0);
    case MMU_PT_UPDATE_PRESERVE_AD:
        return pte_update(d, place, update->val, 1);
    case MMU_MACHPHYS_UPDATE:
        return machphys_update(d, place >> 12, update->val);
    default:
        return -XEN_ENOSYS;
    }
}

/* mmu_update(list, count, *done, domain) */
int64_t xen_mmu_update(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    uint32_t count, done;
    int64_t result = list_begin(d, call, &count, &done);
    if (result)
        return result;
    /* The lower half is the domain whose frames are mapped: DOMID_SELF, or for a dom0 DOMID_IO (device memory). The upper half is
     * the domain whose page tables change, plus 1; 0 is the caller, too. */
    uint32_t domid = (uint32_t)call->args[3];
    if (domid >> 16 && domid >> 16 != own_domid(d) + 1u)
        return -XEN_ESRCH;
    if ((uint16_t)domid != DOMID_SELF && !((uint16_t)domid == DOMID_IO && (d->flags & SIF_PRIVILEGED)))
        return list_end(d, call, 0, count, done, sizeof(struct mmu_update), -XEN_ESRCH);
    return list_run(d, call, count, done, sizeof(struct mmu_update), one_update);
}

/* Reads a set of processors, of which there is one: whether it is in the set. */
static int read_processors(struct domain *d, uint64_t pointer, int *included)
{
    uint64_t set;
    if (guest_read(d->cpu, &set, pointer, sizeof set))
        return -XEN_EFAULT;
    *included = (int)(set & 1);
    return 0;
}

/* Does a flush. Above its kind the flags name the processors: 0 is this one, UVMF_ALL all, else it points to a set of them. */
static int flush_for(struct domain *d, uint64_t address, uint64_t flags)
{
    uint64_t kind = flags & UVMF_FLUSHTYPE_MASK, processors = flags & ~(uint64_t)UVMF_FLUSHTYPE_MASK;
    int included = 1, error = 0;
    if (kind != UVMF_TLB_FLUSH && kind != UVMF_INVLPG)
        return 0;
    if (processors && processors != UVMF_ALL) {
        error = read_processors(d, processors, &included);
        if (error || !included)
            return error;
    }
    if (kind == UVMF_TLB_FLUSH)
        flush_all(d);
    else
        hvmx_core->flush_page(d->cpu, address);
    return 0;
}

/* update_va_mapping(address, entry, flags): writes the level 1 entry of a linear address in the current address space. */
int64_t xen_update_va_mapping(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    uint64_t address = call->args[0], granted, table = level1_table(d, d->cpu->cr3 >> 12, address, &granted);
    if (table == 0)
        return -XEN_EINVAL;
    int error = set_entry(d, table, address >> 12 & 511, call->args[1], 0);
    preempt_after(d);
    return error ? error : flush_for(d, address, call->args[2]);
}

/* --- mmuext_op -------------------------------------------------------------------------------------------------------- */
static int pin(struct domain *d, uint64_t mfn, enum frame_type type)
{
    int error = get_frame_and_type(d, mfn, type);
    if (error)
        return error;
    if (d->frames[mfn].pinned) {
        put_frame_and_type(d, mfn);
        return -XEN_EINVAL;
    }
    d->frames[mfn].pinned = 1;
    return 0;
}

static int unpin(struct domain *d, uint64_t mfn)
{
    if (mfn >= d->frame_count || d->frames[mfn].owner != OWNER_DOMAIN || !d->frames[mfn].pinned)
        return -XEN_EINVAL;
    d->frames[mfn].pinned = 0;
    put_frame_and_type(d, mfn);
    return 0;
}

static void set_m2p_slot(struct domain *d, uint64_t l4, int visible)
{
    uint64_t *entries = frame_memory(d, l4);
    entries[L4_SLOT_M2P] = visible ? d->m2p_l3 << 12 | PTE_P | PTE_US | PTE_A : 0;
}

int new_base(struct domain *d, uint64_t mfn)
{
    int error = get_frame_and_type(d, mfn, FRAME_L4);
    if (error)
        return error;
    uint64_t old = d->kernel_table;
    if (mfn == old) {
        flush_all(d);
        put_frame_and_type(d, mfn);
        return 0;
    }
    drop_ldt_pages(d); /* in the new address space the LDT's addresses may map other pages */
    set_m2p_slot(d, mfn, 1);
    d->kernel_table = mfn;
    note_turn(d->cpu, guest_time(d->cpu));
    load_page_tables(d);
    flush_all(d);
    put_frame_and_type(d, old);
    return 0;
}

static int new_user_base(struct domain *d, uint64_t mfn)
{
    uint64_t old = d->user_table;
    if (mfn == old)
        return 0;
    if (mfn) {
        int error = get_frame_and_type(d, mfn, FRAME_L4);
        if (error)
            return error;
        if (d->vm_assist & 1ull << VMASST_TYPE_m2p_strict)
            set_m2p_slot(d, mfn, 0);
    }
    d->user_table = mfn;
    if (old)
        put_frame_and_type(d, old);
    return 0;
}

static int clear_or_copy(struct domain *d, uint64_t to, uint64_t from, int copy)
{
    if (copy && get_frame(d, from) == NULL)
        return -XEN_EINVAL;
    int error = get_frame_and_type(d, to, FRAME_WRITABLE);
    if (!error) {
        page_changes(d->cpu, to);
        d->work += PAGE_WORK;
        if (copy)
            memmove(frame_memory(d, to), frame_memory(d, from), 0x1000);
        else
            memset(frame_memory(d, to), 0, 0x1000);
        put_frame_and_type(d, to);
    }
    if (copy)
        put_frame(d, from);
    return error;
}

static int64_t one_extended(struct domain *d, const union element *element)
{
    const struct mmuext_op *op = &element->op;
    uint64_t mfn = op->arg1.mfn;
    int included;
    d->command = op->cmd;
    switch (op->cmd) {
    case MMUEXT_PIN_L1_TABLE:
    case MMUEXT_PIN_L2_TABLE:
    case MMUEXT_PIN_L3_TABLE:
    case MMUEXT_PIN_L4_TABLE:
        return pin(d, mfn, FRAME_L1 + (op->cmd - MMUEXT_PIN_L1_TABLE));
    case MMUEXT_UNPIN_TABLE:
        return unpin(d, mfn);
    case MMUEXT_NEW_BASEPTR:
        return new_base(d, mfn);
    case MMUEXT_NEW_USER_BASEPTR:
        return new_user_base(d, mfn);
    case MMUEXT_TLB_FLUSH_LOCAL:
    case MMUEXT_TLB_FLUSH_ALL:
        flush_all(d);
        return 0;
    case MMUEXT_INVLPG_LOCAL:
    case MMUEXT_INVLPG_ALL:
        d->work += PAGE_WORK;
        hvmx_core->flush_page(d->cpu, op->arg1.linear_addr);
        return 0;
    case MMUEXT_TLB_FLUSH_MULTI:
    case MMUEXT_INVLPG_MULTI:
        if (read_processors(d, op->arg2.vcpumask, &included))
            return -XEN_EINVAL;
        if (included && op->cmd == MMUEXT_TLB_FLUSH_MULTI)
            flush_all(d);
        else if (included)
            hvmx_core->flush_page(d->cpu, op->arg1.linear_addr);
        return 0;
    case MMUEXT_FLUSH_CACHE:
    case MMUEXT_FLUSH_CACHE_GLOBAL: /* nothing to do, but allowed only to a domain with devices */
        return d->flags & SIF_PRIVILEGED ? 0 : -XEN_EACCES;
    case MMUEXT_SET_LDT:
        return set_ldt(d, op->arg1.linear_addr, op->arg2.nr_ents);
    case MMUEXT_CLEAR_PAGE:
        return clear_or_copy(d, mfn, 0, 0);
    case MMUEXT_COPY_PAGE:
        return clear_or_copy(d, mfn, op->arg2.src_mfn, 1);
    case MMUEXT_MARK_SUPER:
    case MMUEXT_UNMARK_SUPER:
        return -XEN_EOPNOTSUPP;
    default:
        return -XEN_ENOSYS;
    }
}

/* mmuext_op(list, count, *done, domain) */
int64_t xen_mmuext_op(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    uint32_t count, done;
    int64_t result = list_begin(d, call, &count, &done);
    d->command = ~0u;
    if (result)
        return result;
    if ((uint16_t)call->args[3] != DOMID_SELF)
        return -XEN_ESRCH;
    return list_run(d, call, count, done, sizeof(struct mmuext_op), one_extended);
}

/* vm_assist(command, type) */
int64_t xen_vm_assist(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    const uint64_t without_effect = 1ull << VMASST_TYPE_4gb_segments | 1ull << VMASST_TYPE_4gb_segments_notify
                                    | 1ull << VMASST_TYPE_pae_extended_cr3; /* for 64-bit guests */
    const uint64_t valid = without_effect | 1ull << VMASST_TYPE_writable_pagetables
                           | 1ull << VMASST_TYPE_architectural_iopl | 1ull << VMASST_TYPE_runstate_update_flag
                           | 1ull << VMASST_TYPE_m2p_strict;
    uint32_t type = arg32(call, 1);
    if (type >= 64 || !(valid >> type & 1))
        return -XEN_EINVAL;
    switch (arg32(call, 0)) {
    case VMASST_CMD_enable:
        d->vm_assist |= 1ull << type;
        return 0;
    case VMASST_CMD_disable:
        d->vm_assist &= ~(1ull << type);
        return 0;
    default:
        return -XEN_ENOSYS;
    }
}
