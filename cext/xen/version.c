/* xen_version: version and features of the hypervisor. */
#include "version.h"

static uint32_t features(const struct domain *d)
{
    return 1u << XENFEAT_pae_pgdir_above_4gb | 1u << XENFEAT_mmu_pt_update_preserve_ad | 1u << XENFEAT_highmem_assist
           | 1u << XENFEAT_gnttab_map_avail_bits | (d->flags & SIF_INITDOMAIN ? 1u << XENFEAT_dom0 : 0);
}

/* xen_version(command, *argument) */
int64_t xen_version(struct hvmx_hypercall *call)
{
    static const char extra_version[16] = ".0-hvmx", change_set[64] = "hvmx", capabilities[1024] = "xen-3.0-x86_64 ";
    static const struct xen_compile_info compile_info = { "C11", "hvmx", "hvmx", "fixed" };
    static const uint64_t virt_start = HYPERVISOR_VIRT_START;
    static const uint8_t handle[16], command_line[1024];
    struct domain *d = domain_of(call);
    uint64_t pointer = call->args[1];
    struct xen_feature_info feature;
    switch (arg32(call, 0)) {
    case XENVER_version:
        return XEN_VERSION;
    case XENVER_extraversion:
        return guest_write(d->cpu, pointer, extra_version, sizeof extra_version);
    case XENVER_compile_info:
        return guest_write(d->cpu, pointer, &compile_info, sizeof compile_info);
    case XENVER_capabilities:
        return guest_write(d->cpu, pointer, capabilities, sizeof capabilities);
    case XENVER_changeset:
        return guest_write(d->cpu, pointer, change_set, sizeof change_set);
    case XENVER_platform_parameters:
        return guest_write(d->cpu, pointer, &virt_start, sizeof virt_start);
    case XENVER_get_features:
        if (guest_read(d->cpu, &feature, pointer, sizeof feature))
            return -XEN_EFAULT;
        if (feature.submap_idx >= XENFEAT_NR_SUBMAPS)
            return -XEN_EINVAL;
        feature.submap = features(d);
        return guest_write(d->cpu, pointer, &feature, sizeof feature);
    case XENVER_pagesize:
        return 0x1000;
    case XENVER_guest_handle:
        return guest_write(d->cpu, pointer, handle, sizeof handle);
    case XENVER_commandline:
        return guest_write(d->cpu, pointer, command_line, sizeof command_line);
    case XENVER_build_id:
        return -XEN_ENODATA;
    default:
        return -XEN_ENOSYS;
    }
}
