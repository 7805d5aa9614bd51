/* The domain's reservation of memory, what it may know of the machine's, and its grant table. */
#include "xen.h"

#include <string.h>

enum { EXTENT_ORDER_MAX = 9, E820_RAM = 1 };

/* --- reservations: each answers with the number of extents done ----------------------------------------------------- */
static int release(struct domain *d, uint64_t mfn)
{
    struct frame *frame = get_frame(d, mfn);
    if (frame == NULL)
        return 0;
    int held = !frame->released;
    frame->released = 1;
    put_frame(d, mfn);
    return held;
}

static int decrease(struct domain *d, const struct xen_memory_reservation *r, uint64_t index)
{
    uint64_t mfn;
    if (guest_read(d->cpu, &mfn, r->extent_start + index * 8, 8))
        return 0;
    for (uint64_t i = 0; i < 1ull << r->extent_order; i++) {
        if (!release(d, mfn + i))
            return 0;
        d->work++;
    }
    return 1;
}

static int increase(struct domain *d, const struct xen_memory_reservation *r, uint64_t index, int at_pfn)
{
    uint64_t pfn = INVALID_M2P_ENTRY;
    if (r->extent_order || d->first_free == 0 || d->nr_pages >= d->max_pages)
        return 0;
    if (at_pfn && guest_read(d->cpu, &pfn, r->extent_start + index * 8, 8))
        return 0;
    uint64_t mfn = take_free_frame(d);
    d->m2p[mfn] = pfn;
    return (r->extent_start == 0 && !at_pfn) || guest_write(d->cpu, r->extent_start + index * 8, &mfn, 8) == 0;
}

static int64_t reservation(struct domain *d, struct hvmx_hypercall *call)
{
    uint64_t command = call->args[0] & ((1 << MEMOP_EXTENT_SHIFT) - 1);
    uint64_t index = call->args[0] >> MEMOP_EXTENT_SHIFT;
    struct xen_memory_reservation r;
    if (guest_read(d->cpu, &r, call->args[1], sizeof r))
        return (int64_t)index;
    if (r.nr_extents > ~0ull >> MEMOP_EXTENT_SHIFT || r.extent_order > EXTENT_ORDER_MAX || r.domid != DOMID_SELF)
        return (int64_t)index;
    while (index < r.nr_extents) {
        int done = command == XENMEM_decrease_reservation ? decrease(d, &r, index)
                                                          : increase(d, &r, index, command == XENMEM_populate_physmap);
        if (!done)
            break;
        index++;
        if (preempt_after(d) && index < r.nr_extents) {
            call->args[0] = command | index << MEMOP_EXTENT_SHIFT;
            d->preempted = 1;
            break;
        }
    }
    return (int64_t)index;
}

/* --- maps ------------------------------------------------------------------------------------------------------------- */
static int64_t memory_map(struct domain *d, uint64_t pointer, uint64_t pages)
{
    struct xen_memory_map map;
    const struct e820_entry ram = { 0, pages << 12, E820_RAM };
    if (guest_read(d->cpu, &map, pointer, sizeof map))
        return -XEN_EFAULT;
    if (map.nr_entries < 1)
        return -XEN_EINVAL;
    map.nr_entries = 1;
    if (guest_write(d->cpu, map.buffer, &ram, sizeof ram) || guest_write(d->cpu, pointer, &map, sizeof map))
        return -XEN_EFAULT;
    return 0;
}

/* memory_op(command | first extent, *argument) */
int64_t xen_memory_op(struct hvmx_hypercall *call)
{
    static const struct xen_machphys_mapping mapping = {
        MACH2PHYS_VIRT_START, MACH2PHYS_VIRT_END, (MACH2PHYS_VIRT_END - MACH2PHYS_VIRT_START) / 8 - 1 };
    struct domain *d = domain_of(call);
    uint16_t domid;
    switch (call->args[0] & ((1 << MEMOP_EXTENT_SHIFT) - 1)) {
    case XENMEM_increase_reservation:
    case XENMEM_decrease_reservation:
    case XENMEM_populate_physmap:
        return reservation(d, call);
    case XENMEM_maximum_ram_page:
        return (int64_t)d->frame_count;
    case XENMEM_current_reservation:
    case XENMEM_maximum_reservation:
    case XENMEM_maximum_gpfn:
        if (guest_read(d->cpu, &domid, call->args[1], sizeof domid))
            return -XEN_EFAULT;
        if (domid != DOMID_SELF)
            return -XEN_ESRCH;
        if (call->args[0] == XENMEM_maximum_gpfn)
            return (int64_t)d->shared_info->arch.max_pfn - 1;
        return (int64_t)(call->args[0] == XENMEM_current_reservation ? d->nr_pages : d->max_pages);
    case XENMEM_memory_map:
        return memory_map(d, call->args[1], d->max_pages);
    case XENMEM_machine_memory_map:
        return d->flags & SIF_PRIVILEGED ? memory_map(d, call->args[1], d->frame_count) : -XEN_EPERM;
    case XENMEM_machphys_mapping:
        return guest_write(d->cpu, call->args[1], &mapping, sizeof mapping);
    default:
        return -XEN_ENOSYS;
    }
}

/* --- grants: the table itself, version 1. There is no other domain to use what it grants. ----------------------------- */
static int64_t setup_table(struct domain *d, uint64_t pointer)
{
    struct gnttab_setup_table setup;
    if (guest_read(d->cpu, &setup, pointer, sizeof setup))
        return -XEN_EFAULT;
    setup.status = GNTST_okay;
    if (setup.dom != DOMID_SELF) {
        setup.status = GNTST_bad_domain;
    } else if (setup.nr_frames > GRANT_FRAMES) {
        setup.status = GNTST_general_error;
    } else {
        if (setup.nr_frames > d->grant_frames)
            d->grant_frames = setup.nr_frames;
        for (uint64_t i = 0; i < setup.nr_frames; i++) {
            uint64_t mfn = d->grant_frame + i;
            if (guest_write(d->cpu, setup.frame_list + i * 8, &mfn, 8))
                return -XEN_EFAULT;
        }
    }
    return guest_write(d->cpu, pointer, &setup, sizeof setup);
}

static int64_t query_size(struct domain *d, uint64_t pointer)
{
    struct gnttab_query_size query;
    if (guest_read(d->cpu, &query, pointer, sizeof query))
        return -XEN_EFAULT;
    query.nr_frames = d->grant_frames;
    query.max_nr_frames = GRANT_FRAMES;
    query.status = query.dom == DOMID_SELF ? GNTST_okay : GNTST_bad_domain;
    return guest_write(d->cpu, pointer, &query, sizeof query);
}

static int64_t grant_version(struct domain *d, uint64_t pointer, int set)
{
    struct gnttab_set_version wanted;
    struct gnttab_get_version version;
    if (set) {
        if (guest_read(d->cpu, &wanted, pointer, sizeof wanted))
            return -XEN_EFAULT;
        if (wanted.version != 1)
            return wanted.version == 2 ? -XEN_ENOSYS : -XEN_EINVAL;
        return 0;
    }
    if (guest_read(d->cpu, &version, pointer, sizeof version))
        return -XEN_EFAULT;
    if (version.dom != DOMID_SELF)
        return -XEN_ESRCH;
    version.version = 1;
    return guest_write(d->cpu, pointer, &version, sizeof version);
}

/* grant_table_op(command, *list, count) */
int64_t xen_grant_table_op(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    if (call->args[2] == 0)
        return 0;
    if (call->args[2] != 1) /* each of these takes one element */
        return -XEN_EINVAL;
    switch (call->args[0]) {
    case GNTTABOP_setup_table:
        return setup_table(d, call->args[1]);
    case GNTTABOP_query_size:
        return query_size(d, call->args[1]);
    case GNTTABOP_set_version:
    case GNTTABOP_get_version:
        return grant_version(d, call->args[1], call->args[0] == GNTTABOP_set_version);
    default:
        return -XEN_ENOSYS;
    }
}
