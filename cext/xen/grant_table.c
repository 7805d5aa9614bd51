/* grant_table_op: setting up the table, in version 1. There is no other domain that could use a grant. */
#include "grant_table.h"

enum { GNTTABOP_NUMBER_SHIFT = 12 };

static int64_t setup_table(struct domain *d, uint64_t pointer)
{
    struct gnttab_setup_table setup;
    if (guest_read(d->cpu, &setup, pointer, sizeof setup))
        return -XEN_EFAULT;
    setup.status = GNTST_okay;
    if (!is_own(d, setup.dom)) {
        setup.status = GNTST_bad_domain;
    } else if (setup.nr_frames > GRANT_FRAMES) {
        setup.status = GNTST_general_error;
    } else {
        if (setup.nr_frames > d->grant_frames)
            d->grant_frames = setup.nr_frames;
        for (uint64_t i = 0; i < setup.nr_frames; i++) {
            uint64_t mfn = d->grant_frame + i;
            if (guest_write(d->cpu, setup.frame_list + i * 8, &mfn, 8))
                setup.status = GNTST_bad_virt_addr;
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
    query.status = is_own(d, query.dom) ? GNTST_okay : GNTST_bad_domain;
    return guest_write(d->cpu, pointer, &query, sizeof query);
}

/* Returns the version in use, whatever was asked for. */
static int64_t set_version(struct domain *d, uint64_t pointer)
{
    struct gnttab_set_version set;
    if (guest_read(d->cpu, &set, pointer, sizeof set))
        return -XEN_EFAULT;
    int64_t result = set.version == 1 ? 0 : set.version == 2 ? -XEN_ENOSYS : -XEN_EINVAL;
    set.version = 1;
    return guest_write(d->cpu, pointer, &set, sizeof set) ? -XEN_EFAULT : result;
}

static int64_t get_version(struct domain *d, uint64_t pointer)
{
    struct gnttab_get_version get;
    if (guest_read(d->cpu, &get, pointer, sizeof get))
        return -XEN_EFAULT;
    if (!is_own(d, get.dom))
        return -XEN_ESRCH;
    get.version = 1;
    return guest_write(d->cpu, pointer, &get, sizeof get);
}

/* grant_table_op(command, *list, count). A resumed call has the number of elements done above the command; none of these
 * operations is ever preempted. */
int64_t xen_grant_table_op(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    uint32_t count = arg32(call, 2);
    if (count >> 31 || arg32(call, 0) >> GNTTABOP_NUMBER_SHIFT)
        return -XEN_EINVAL;
    switch (arg32(call, 0)) {
    case GNTTABOP_setup_table:
        return count == 1 ? setup_table(d, call->args[1]) : -XEN_EINVAL;
    case GNTTABOP_query_size:
        return count == 1 ? query_size(d, call->args[1]) : -XEN_EINVAL;
    case GNTTABOP_set_version: /* always one element, whatever the count */
        return set_version(d, call->args[1]);
    case GNTTABOP_get_version:
        return get_version(d, call->args[1]);
    default:
        return -XEN_ENOSYS;
    }
}
