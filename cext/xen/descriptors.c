/* The GDT and the LDT of a domain, which it can change by hypercalls only, and loading CS, SS and the bases of FS and GS for
 * it. */
#include "descriptors.h"

#include "addresses.h"
#include "frames.h"

#include <string.h>

/* The flat segments in Xen's reserved part of every GDT. */
static int flat_descriptor(uint16_t selector, Segment *segment)
{
    switch (selector) {
    case FLAT_KERNEL_CS64:
        *segment = (Segment){ 0, 0xffffffff, AR_G | AR_L | AR_P | AR_DPL | AR_S | 0xb, selector };
        return 1;
    case FLAT_RING3_CS32:
        *segment = (Segment){ 0, 0xffffffff, AR_G | AR_DB | AR_P | AR_DPL | AR_S | 0xb, selector };
        return 1;
    case FLAT_KERNEL_SS:
        *segment = (Segment){ 0, 0xffffffff, AR_G | AR_DB | AR_P | AR_DPL | AR_S | 0x3, selector };
        return 1;
    default:
        return 0;
    }
}

static int is_null(uint16_t selector)
{
    return (selector & ~3) == 0;
}

static void map_descriptor_page(struct domain *d, uint32_t page, uint64_t frame)
{
    uint64_t entry = frame ? frame << 12 | PTE_P | PTE_RW | PTE_A : 0; /* the processor sets accessed bits */
    if (!frame && page < GDT_PAGES)
        entry = d->no_descriptors << 12 | PTE_P | PTE_A;
    d->descriptor_l1[page] = entry;
    hvmx_core->flush_page(d->cpu, GDT_VIRT_START + ((uint64_t)page << 12));
}

/* --- the LDT, whose pages are taken when the processor comes to them ------------------------------------------------- */
/* The frame that is mapped at an address of the kernel's address space; 0 if none is. */
static uint64_t frame_in_kernel(const struct domain *d, uint64_t address)
{
    uint64_t granted, table = level1_table(d, d->kernel_table, address, &granted);
    uint64_t entry = table ? ((const uint64_t *)frame_memory(d, table))[address >> 12 & 511] : 0;
    return entry & PTE_P ? (entry & PTE_FRAME) >> 12 : 0;
}

/* Maps a page of the LDT, if it can get the type "descriptors", which a page that is mapped writable cannot. Whether it is
 * mapped. */
static int take_ldt_page(struct domain *d, uint32_t page)
{
    if (page * 512 >= d->ldt_entries)
        return 0;
    if (d->ldt[page])
        return 1;
    uint64_t frame = frame_in_kernel(d, d->ldt_base + ((uint64_t)page << 12));
    if (frame == 0 || get_frame_and_type(d, frame, FRAME_SEGDESC))
        return 0;
    d->ldt[page] = frame;
    map_descriptor_page(d, GDT_PAGES + page, frame);
    return 1;
}

void drop_ldt_pages(struct domain *d)
{
    for (uint32_t page = 0; page < LDT_PAGES; page++) {
        if (d->ldt[page] == 0)
            continue;
        put_frame_and_type(d, d->ldt[page]);
        d->ldt[page] = 0;
        map_descriptor_page(d, GDT_PAGES + page, 0);
    }
}

/* Handles a page fault at `*cr2`, if that is in the LDT. 1: its page is mapped now. 0: the guest gets the fault; of one in the
 * LDT `*cr2` is then the guest's own address of the descriptor. */
int ldt_fault(struct domain *d, uint64_t *cr2)
{
    uint64_t offset = *cr2 - LDT_VIRT_START;
    if (offset >= LDT_PAGES * 0x1000)
        return 0;
    *cr2 = d->ldt_base + offset;
    return take_ldt_page(d, (uint32_t)(offset >> 12));
}

/* MMUEXT_SET_LDT */
int64_t set_ldt(struct domain *d, uint64_t base, uint64_t entries)
{
    if (entries == 0)
        base = 0;
    if ((base & 0xfff) || entries > LDT_ENTRIES || !is_guest_address(base))
        return -XEN_EINVAL;
    if (base == d->ldt_base && entries == d->ldt_entries)
        return 0;
    drop_ldt_pages(d);
    d->ldt_base = base;
    d->ldt_entries = entries;
    d->cpu->seg[SEG_LDTR] = entries ? (Segment){ LDT_VIRT_START, (uint32_t)entries * 8 - 1, AR_P | 2, 0 }
                                    : (Segment){ 0, 0, AR_UNUSABLE, 0 };
    return 0;
}

/* --- segments --------------------------------------------------------------------------------------------------------- */
static int read_descriptor(struct domain *d, uint16_t selector, uint64_t *descriptor)
{
    uint32_t index = selector >> 3;
    uint64_t frame = 0;
    if (is_null(selector))
        return 0;
    if (selector & 4) {
        if (index < d->ldt_entries && take_ldt_page(d, index >> 9))
            frame = d->ldt[index >> 9];
    } else if (index < FIRST_RESERVED_GDT_ENTRY) {
        frame = d->gdt[index >> 9];
    }
    if (frame == 0)
        return 0;
    *descriptor = ((const uint64_t *)frame_memory(d, frame))[index & 511];
    return 1;
}

static int read_segment(struct domain *d, uint16_t selector, Segment *segment)
{
    uint64_t descriptor;
    if (LIKELY(flat_descriptor(selector, segment)))
        return 1;
    if (!read_descriptor(d, selector, &descriptor))
        return 0;
    segment->selector = selector;
    segment->base = (descriptor >> 16 & 0xffffff) | (descriptor >> 32 & 0xff000000);
    segment->limit = (uint32_t)((descriptor & 0xffff) | (descriptor >> 32 & 0xf0000));
    segment->access = (uint32_t)(descriptor >> 40 & 0xf0ff);
    if (segment->access & AR_G)
        segment->limit = segment->limit << 12 | 0xfff;
    return (segment->access & (AR_S | AR_DPL)) == (AR_S | AR_DPL);
}

static int is_code(const Segment *segment)
{
    return !!(segment->access & 8);
}

/* 0, or the vector of the fault, and then CS has not changed. */
uint32_t load_code_segment(struct domain *d, uint16_t selector)
{
    Segment segment;
    if (!read_segment(d, selector, &segment) || !is_code(&segment) || (segment.access & (AR_L | AR_DB)) == (AR_L | AR_DB))
        return VEC_GP;
    if (!(segment.access & AR_P))
        return VEC_NP;
    uint32_t width = (d->cpu->seg[SEG_CS].access ^ segment.access) & (AR_L | AR_DB);
    int same_base = d->cpu->seg[SEG_CS].base == segment.base && d->cpu->seg[SEG_CS].limit == segment.limit;
    d->cpu->seg[SEG_CS] = segment;
    if (width || !same_base)
        hvmx_core->update_mode(d->cpu);
    return 0;
}

uint32_t load_stack_segment(struct domain *d, uint16_t selector)
{
    Segment segment;
    if (!read_segment(d, selector, &segment) || (segment.access & 0xa) != 2) /* at ring 3 a null SS is refused, too */
        return VEC_GP;
    if (!(segment.access & AR_P))
        return VEC_SS;
    int changed = d->cpu->seg[SEG_SS].base != segment.base || d->cpu->seg[SEG_SS].limit != segment.limit
                  || d->cpu->seg[SEG_SS].access != segment.access;
    d->cpu->seg[SEG_SS] = segment;
    if (changed)
        hvmx_core->update_mode(d->cpu);
    return 0;
}

/* set_gdt(*frames, entries) */
int64_t xen_set_gdt(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    uint32_t entries = arg32(call, 1);
    uint64_t frames[FIRST_RESERVED_GDT_PAGE];
    if (entries > FIRST_RESERVED_GDT_ENTRY)
        return -XEN_EINVAL;
    uint32_t pages = (entries + 511) / 512, taken = 0;
    if (guest_read(d->cpu, frames, call->args[0], pages * sizeof *frames))
        return -XEN_EFAULT;
    while (taken < pages && get_frame_and_type(d, frames[taken], FRAME_SEGDESC) == 0)
        taken++;
    if (taken < pages) {
        while (taken)
            put_frame_and_type(d, frames[--taken]);
        return -XEN_EINVAL;
    }
    for (uint32_t page = 0; page < FIRST_RESERVED_GDT_PAGE; page++) {
        if (d->gdt[page])
            put_frame_and_type(d, d->gdt[page]);
        d->gdt[page] = page < pages ? frames[page] : 0;
        map_descriptor_page(d, page, d->gdt[page]);
    }
    return 0;
}

/* update_descriptor(machine address, descriptor) */
int64_t xen_update_descriptor(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    uint64_t mfn = call->args[0] >> 12, descriptor = call->args[1];
    if ((call->args[0] & 7) || !check_descriptor(&descriptor) || get_frame(d, mfn) == NULL)
        return -XEN_EINVAL;
    const struct frame *frame = &d->frames[mfn];
    enum frame_type type = frame->type_refs && frame->type == FRAME_SEGDESC ? FRAME_SEGDESC : FRAME_WRITABLE;
    int error = get_frame_and_type(d, mfn, type);
    if (!error) {
        page_changes(d->cpu, mfn);
        memcpy((uint8_t *)frame_memory(d, mfn) + (call->args[0] & 0xff8), &descriptor, 8);
        put_frame_and_type(d, mfn);
    }
    put_frame(d, mfn);
    return error;
}

/* set_segment_base(which, base) */
int64_t xen_set_segment_base(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    uint64_t base = call->args[1];
    Segment segment;
    if (arg32(call, 0) != SEGBASE_GS_USER_SEL && !is_canonical(base))
        return -XEN_EINVAL;
    switch (arg32(call, 0)) {
    case SEGBASE_FS:
        d->cpu->seg[SEG_FS].base = base;
        return 0;
    case SEGBASE_GS_USER:
        d->cpu->kernel_gs_base = base;
        return 0;
    case SEGBASE_GS_KERNEL:
        d->cpu->seg[SEG_GS].base = base;
        return 0;
    case SEGBASE_GS_USER_SEL: /* like loading GS in user mode, but a bad selector loads null */
        if (is_null((uint16_t)base))
            segment = (Segment){ 0, 0, AR_UNUSABLE, (uint16_t)base };
        else if (!read_segment(d, (uint16_t)base | 3, &segment) || !(segment.access & AR_P)
                 || (segment.access & 0xa) == 8)
            segment = (Segment){ 0, 0, AR_UNUSABLE, 0 };
        d->cpu->kernel_gs_base = segment.base;
        segment.base = d->cpu->seg[SEG_GS].base;
        d->cpu->seg[SEG_GS] = segment;
        return 0;
    default:
        return -XEN_EINVAL;
    }
}
