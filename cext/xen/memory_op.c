/* memory_op: the domain's memory reservation and memory maps. */
#include "memory_op.h"

#include "frames.h"

enum { EXTENT_ORDER_MAX = 9, E820_RAM = 1 };
#define MEMOP_COMMAND ((1u << MEMOP_EXTENT_SHIFT) - 1)

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
    uint64_t command = call->args[0] & MEMOP_COMMAND;
    uint64_t index = call->args[0] >> MEMOP_EXTENT_SHIFT;
    struct xen_memory_reservation r;
    if (guest_read(d->cpu, &r, call->args[1], sizeof r))
        return (int64_t)index;
    if (r.nr_extents > ~0ull >> MEMOP_EXTENT_SHIFT || r.extent_order > EXTENT_ORDER_MAX || !is_own(d, r.domid))
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
/* The memory map of a domU. */
static int64_t memory_map(struct domain *d, uint64_t pointer)
{
    struct xen_memory_map map;
    const struct e820_entry ram = { 0, d->max_pages << 12, E820_RAM };
    if (d->flags & SIF_INITDOMAIN)
        return -XEN_ENOSYS;
    if (guest_read(d->cpu, &map, pointer, sizeof map))
        return -XEN_EFAULT;
    if (map.nr_entries > 1)
        map.nr_entries = 1;
    if (map.nr_entries && guest_write(d->cpu, map.buffer, &ram, sizeof ram))
        return -XEN_EFAULT;
    return guest_write(d->cpu, pointer, &map, sizeof map);
}

/* The memory map of the machine, for its dom0. The buffer must have room for one entry more than there are; without a buffer
 * only the number of entries is returned. */
static int64_t machine_memory_map(struct domain *d, uint64_t pointer)
{
    struct xen_memory_map map;
    const struct e820_entry ram = { 0, d->frame_count << 12, E820_RAM };
    if (!(d->flags & SIF_PRIVILEGED))
        return -XEN_EPERM;
    if (guest_read(d->cpu, &map, pointer, sizeof map))
        return -XEN_EFAULT;
    if (map.buffer && map.nr_entries < 2)
        return -XEN_EINVAL;
    map.nr_entries = 1;
    if (map.buffer && guest_write(d->cpu, map.buffer, &ram, sizeof ram))
        return -XEN_EFAULT;
    return guest_write(d->cpu, pointer, &map, sizeof map);
}

/* Commands specific to x86, which have no extent above the command. */
static int64_t arch_memory_op(struct domain *d, struct hvmx_hypercall *call)
{
    static const struct xen_machphys_mapping mapping = {
        MACH2PHYS_VIRT_START, MACH2PHYS_VIRT_END, (MACH2PHYS_VIRT_END - MACH2PHYS_VIRT_START) / 8 - 1 };
    switch (call->args[0]) {
    case XENMEM_memory_map:
        return memory_map(d, call->args[1]);
    case XENMEM_machine_memory_map:
        return machine_memory_map(d, call->args[1]);
    case XENMEM_machphys_mapping:
        return guest_write(d->cpu, call->args[1], &mapping, sizeof mapping);
    default:
        return -XEN_ENOSYS;
    }
}

/* memory_op(command | first extent, *argument) */
int64_t xen_memory_op(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    uint64_t command = call->args[0] & MEMOP_COMMAND, extent = call->args[0] >> MEMOP_EXTENT_SHIFT;
    uint16_t domid;
    switch (command) {
    case XENMEM_increase_reservation:
    case XENMEM_decrease_reservation:
    case XENMEM_populate_physmap:
        return reservation(d, call);
    case XENMEM_maximum_ram_page:
        return extent ? -XEN_EINVAL : (int64_t)d->frame_count;
    case XENMEM_current_reservation:
    case XENMEM_maximum_reservation:
    case XENMEM_maximum_gpfn:
        if (extent)
            return -XEN_EINVAL;
        if (guest_read(d->cpu, &domid, call->args[1], sizeof domid))
            return -XEN_EFAULT;
        if (!is_own(d, domid))
            return -XEN_ESRCH;
        if (command == XENMEM_maximum_gpfn)
            return d->shared_info->arch.max_pfn ? (int64_t)d->shared_info->arch.max_pfn - 1 : 0;
        return (int64_t)(command == XENMEM_current_reservation ? d->nr_pages : d->max_pages);
    default:
        return arch_memory_op(d, call);
    }
}
