/* Frames and their types. Xen's rule: at any time a frame is a page table of one level, or a page of descriptors, or mapped
 * writable, never two of these. To become a page table all its entries are validated; from then on it changes only through
 * set_entry(). Each present entry holds a reference to the frame it points to, and to that frame's type. */
#include "frames.h"

#include "addresses.h"

#include <string.h>

/* The bits that a guest may set above level 1 (Xen: the complement of L2_DISALLOW_MASK and its sisters): not large pages,
 * global pages and cache attributes. At level 1 it may set any. */
#define AVAILABLE_HIGH 0x7ff0000000000000ull   /* bits 52-62: the guest's own */
#define TABLE_ALLOWED (PTE_FRAME | AVAILABLE_HIGH | PTE_NX | 0xe00 | PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D)
#define GUEST_KERNEL (1ull << 52)              /* Xen's _PAGE_GUEST_KERNEL */

static int validate(struct domain *d, uint64_t mfn, enum frame_type type, uint32_t held);
static void give_up(struct domain *d, uint64_t mfn, enum frame_type type, uint32_t held);

void flush_all(struct domain *d)
{
    d->flush_clock = (d->flush_clock + 1) & 511;
    d->work += PAGE_WORK;
    hvmx_core->flush_tlb(d->cpu, 1);
}

/* Flushes the TLB if it may still hold a writable mapping of this frame, which has none any more. */
static void flush_stale(struct domain *d, const struct frame *frame)
{
    if (frame->type == FRAME_WRITABLE && frame->flush_clock == d->flush_clock)
        flush_all(d);
}

struct frame *get_frame(struct domain *d, uint64_t mfn)
{
    if (mfn >= d->frame_count || d->frames[mfn].owner != OWNER_DOMAIN || d->frames[mfn].refs == FRAME_MAX)
        return NULL;
    d->frames[mfn].refs++;
    return &d->frames[mfn];
}

void put_frame(struct domain *d, uint64_t mfn)
{
    struct frame *frame = &d->frames[mfn];
    if (--frame->refs || !frame->released)
        return;
    page_changes(d->cpu, mfn);
    memset(frame_memory(d, mfn), 0, 0x1000);
    d->work += PAGE_WORK;
    d->m2p[mfn] = INVALID_M2P_ENTRY;
    frame->owner = OWNER_NOBODY;
    frame->refs = d->first_free;
    d->first_free = (uint32_t)mfn;
    d->nr_pages--;
}

uint64_t take_free_frame(struct domain *d)
{
    uint64_t mfn = d->first_free;
    struct frame *frame = &d->frames[mfn];
    flush_stale(d, frame);
    d->first_free = frame->refs;
    *frame = (struct frame){ .owner = OWNER_DOMAIN };
    d->nr_pages++;
    return mfn;
}

static int get_type(struct domain *d, uint64_t mfn, enum frame_type type)
{
    struct frame *frame = &d->frames[mfn];
    uint32_t held = 0;
    if (frame->type == FRAME_PARTIAL) {
        if (PARTIAL_LEVEL(frame) != type)
            return -XEN_EINVAL;
        held = PARTIAL_HELD(frame);
    } else if (frame->type_refs) {
        if (frame->type != type)
            return -XEN_EINVAL;
        frame->type_refs++;
        return 0;
    }
    if (frame->type != type)
        flush_stale(d, frame);
    frame->type = type;
    frame->type_refs = 1;
    return type == FRAME_WRITABLE ? 0 : validate(d, mfn, type, held);
}

int get_frame_and_type(struct domain *d, uint64_t mfn, enum frame_type type)
{
    struct frame *frame = get_frame(d, mfn);
    if (frame == NULL)
        return -XEN_EINVAL;
    int before = 1 + (frame->type == FRAME_PARTIAL); /* references: the caller's, and the partial table's own */
    int error = get_type(d, mfn, type);
    if (before > !error + (frame->type == FRAME_PARTIAL))
        put_frame(d, mfn);
    return error;
}

void put_frame_and_type(struct domain *d, uint64_t mfn)
{
    struct frame *frame = &d->frames[mfn];
    if (frame->type_refs > 1) {
        frame->type_refs--;
        put_frame(d, mfn);
        return;
    }
    give_up(d, mfn, frame->type, 512);
    if (frame->type != FRAME_PARTIAL)
        put_frame(d, mfn);
}

/* --- entries ------------------------------------------------------------------------------------------------------ */
static int in_ram(const struct domain *d, uint64_t entry)
{
    return (entry & PTE_FRAME) >> 12 < d->frame_count;
}

static int get_l1_entry(struct domain *d, uint64_t entry)
{
    uint64_t mfn = (entry & PTE_FRAME) >> 12;
    if (!in_ram(d, entry)) /* only the control domain may map device memory */
        return (d->flags & SIF_PRIVILEGED) && mfn >> (d->cpu->phys_bits - 12) == 0 ? 0 : -XEN_EPERM;
    if (get_frame(d, mfn) == NULL)
        return -XEN_EBUSY;
    if ((entry & PTE_RW) && get_type(d, mfn, FRAME_WRITABLE)) {
        put_frame(d, mfn);
        return -XEN_EBUSY;
    }
    return 0;
}

static int get_entry(struct domain *d, enum frame_type level, uint64_t entry)
{
    if (!(entry & PTE_P))
        return 0;
    if (level == FRAME_L1)
        return get_l1_entry(d, entry);
    if (entry & ~TABLE_ALLOWED)
        return -XEN_EINVAL;
    return get_frame_and_type(d, (entry & PTE_FRAME) >> 12, level - 1);
}

static void put_entry(struct domain *d, enum frame_type level, uint64_t entry)
{
    uint64_t mfn = (entry & PTE_FRAME) >> 12;
    if (!(entry & PTE_P) || !in_ram(d, entry))
        return;
    if (level > FRAME_L1 || (entry & PTE_RW))
        put_frame_and_type(d, mfn);
    else
        put_frame(d, mfn);
}

/* An entry as the hypervisor stores it. Guest kernel and user both run at ring 3, so every page is a user page for the
 * processor. User pages are made global, as they are in both address spaces; kernel pages are marked by an available bit. */
static uint64_t adjusted(enum frame_type level, uint64_t entry)
{
    if (!(entry & PTE_P))
        return entry;
    if (level == FRAME_L1) {
        if (!(entry & PTE_US))
            entry |= GUEST_KERNEL;
        if (!(entry & GUEST_KERNEL))
            entry |= PTE_G;
    }
    return entry | PTE_US;
}

static int is_guest_slot(enum frame_type level, uint32_t index)
{
    return level != FRAME_L4 || index < L4_SLOT_XEN_FIRST || index >= L4_SLOT_XEN_END;
}

static void install_xen_slots(struct domain *d, uint64_t *l4)
{
    memset(l4 + L4_SLOT_XEN_FIRST, 0, (L4_SLOT_XEN_END - L4_SLOT_XEN_FIRST) * sizeof *l4);
    l4[L4_SLOT_M2P] = d->m2p_l3 << 12 | PTE_P | PTE_US | PTE_A;
    l4[L4_SLOT_DESCRIPTORS] = d->descriptor_l3 << 12 | PTE_P | PTE_RW | PTE_A;
}

/* Goes on at entry `held`: those before it hold their references. Where that cannot be done within the limit of work, the
 * frame is left as a partial table, and its own validation goes on the next time it is asked for as such. */
static int validate(struct domain *d, uint64_t mfn, enum frame_type type, uint32_t held)
{
    uint64_t *entries = frame_memory(d, mfn);
    page_changes(d->cpu, mfn);
    for (uint32_t index = held; index < 512; index++) {
        uint64_t entry = entries[index];
        int error = 0;
        if (type == FRAME_SEGDESC) {
            if (!check_descriptor(&entries[index]))
                error = -XEN_EINVAL;
        } else if (is_guest_slot(type, index) && (entry & PTE_P)) {
            error = type > FRAME_L1 && d->work > d->work_limit ? UNFINISHED : get_entry(d, type, entry);
            if (error == UNFINISHED) {
                d->frames[mfn].type = FRAME_PARTIAL;
                d->frames[mfn].type_refs = PARTIAL(type, index);
                return error;
            }
            d->work++;
            charge(d->cpu, CHARGE_ENTRY, d->entry_cost);
            if (!error)
                entries[index] = adjusted(type, entry);
        }
        if (error) {
            give_up(d, mfn, type, index);
            return error;
        }
    }
    d->work += PAGE_WORK;
    if (type == FRAME_L4)
        install_xen_slots(d, entries);
    return 0;
}

static void put_present(struct domain *d, uint64_t mfn, enum frame_type level, uint32_t index)
{
    uint64_t entry = ((const uint64_t *)frame_memory(d, mfn))[index];
    if (is_guest_slot(level, index) && (entry & PTE_P)) {
        d->work++;
        put_entry(d, level, entry);
    }
}

/* A frame is no longer of its type, of which the first `held` entries hold references. Above level 1 these are left to
 * drop_tables(): below them there may be any number of tables. */
static void give_up(struct domain *d, uint64_t mfn, enum frame_type type, uint32_t held)
{
    struct frame *frame = &d->frames[mfn];
    if (type > FRAME_L1 && type <= FRAME_L4) {
        frame->type = FRAME_PARTIAL;
        frame->type_refs = PARTIAL(type, held);
        d->dropping[d->dropping_count++] = mfn;
        return;
    }
    if (type == FRAME_L1) {
        for (uint32_t index = 0; index < held; index++)
            put_present(d, mfn, type, index);
        d->work += PAGE_WORK;
    }
    frame->type_refs = 0;
    frame->flush_clock = d->flush_clock;
}

void drop_tables(struct domain *d)
{
    while (d->dropping_count && d->work <= d->work_limit) {
        uint64_t mfn = d->dropping[d->dropping_count - 1];
        struct frame *frame = &d->frames[mfn];
        enum frame_type level = PARTIAL_LEVEL(frame);
        uint32_t held = PARTIAL_HELD(frame);
        if (held) {
            frame->type_refs = PARTIAL(level, held - 1);
            put_present(d, mfn, level, held - 1); /* a table that this was the last use of goes before the rest */
            continue;
        }
        d->dropping_count--;
        d->work += PAGE_WORK;
        frame->type = level;
        frame->type_refs = 0;
        frame->flush_clock = d->flush_clock;
        put_frame(d, mfn);
    }
}

/* Writes an entry of a page table, if it is a valid one. */
int set_entry(struct domain *d, uint64_t table, uint32_t index, uint64_t value, int preserve_ad)
{
    enum frame_type level = d->frames[table].type;
    if (!is_guest_slot(level, index))
        return -XEN_EINVAL;
    uint64_t *entry = (uint64_t *)frame_memory(d, table) + index;
    uint64_t old = *entry;
    value = adjusted(level, value);
    /* With the same frame and the same rights the references stay as they are. */
    const uint64_t same = PTE_FRAME | PTE_P | PTE_RW;
    int keeps = (old & value & PTE_P) && !((old ^ value) & same);
    if (keeps) {
        if (level > FRAME_L1 && (value & ~TABLE_ALLOWED))
            return -XEN_EINVAL;
    } else {
        int error = get_entry(d, level, value);
        if (error)
            return error;
    }
    if (preserve_ad)
        value |= old & (PTE_A | PTE_D);
    page_changes(d->cpu, table);
    *entry = value;
    if (!keeps)
        put_entry(d, level, old);
    return 0;
}

/* Whether a guest may have a descriptor, which may be adjusted: code and data get DPL 3. Of system descriptors only call gates
 * to the guest's own code are allowed, with DPL 0, so that using them always faults, and type 0, the second half of a gate. */
int check_descriptor(uint64_t *descriptor)
{
    enum { TYPE_CALL_GATE = 12 };
    const uint64_t present = 1ull << 47, code_or_data = 1ull << 44, dpl = 3ull << 45, rpl = 3ull << 16;
    uint64_t value = *descriptor;
    uint32_t type = value >> 40 & 15, selector = value >> 16 & 0xffff;
    if (!(value & present))
        return 1;
    if (value & code_or_data) {
        *descriptor = value | dpl;
        return 1;
    }
    if (type == 0)
        return 1;
    int own_code = (selector & 4) || selector >> 3 < FIRST_RESERVED_GDT_ENTRY || selector == FLAT_KERNEL_CS64;
    if (type != TYPE_CALL_GATE || !own_code || (value >> 32 & 0xff))
        return 0;
    *descriptor = (value & ~dpl) | rpl;
    return 1;
}

uint64_t level1_table(const struct domain *d, uint64_t l4, uint64_t address, uint64_t *granted)
{
    uint64_t table = l4;
    *granted = ~0ull;
    if (!is_guest_address(address))
        return 0;
    for (int shift = 39; shift > 12; shift -= 9) {
        uint64_t entry = ((const uint64_t *)frame_memory(d, table))[address >> shift & 511];
        if (!(entry & PTE_P))
            return 0;
        *granted &= entry;
        table = (entry & PTE_FRAME) >> 12;
    }
    return table;
}

uint64_t count_tables(const struct domain *d)
{
    uint64_t count = 0;
    for (uint64_t mfn = 0; mfn < d->frame_count; mfn++) {
        const struct frame *frame = &d->frames[mfn];
        count += is_table(frame);
    }
    return count;
}
