"""Names of the hypercalls, for people: Xen's from its public headers, KVM's from Linux's ``kvm_para.h``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

XEN_HYPERCALLS: Mapping[int, str] = {
    0: "set_trap_table",
    1: "mmu_update",
    2: "set_gdt",
    3: "stack_switch",
    4: "set_callbacks",
    5: "fpu_taskswitch",
    7: "platform_op",
    8: "set_debugreg",
    9: "get_debugreg",
    10: "update_descriptor",
    12: "memory_op",
    13: "multicall",
    14: "update_va_mapping",
    15: "set_timer_op",
    17: "xen_version",
    18: "console_io",
    20: "grant_table_op",
    21: "vm_assist",
    22: "update_va_mapping_otherdomain",
    23: "iret",
    24: "vcpu_op",
    25: "set_segment_base",
    26: "mmuext_op",
    27: "xsm_op",
    28: "nmi_op",
    29: "sched_op",
    30: "callback_op",
    31: "xenoprof_op",
    32: "event_channel_op",
    33: "physdev_op",
    34: "hvm_op",
    35: "sysctl",
    36: "domctl",
    37: "kexec_op",
    39: "argo_op",
    40: "xenpmu_op",
    41: "dm_op",
    42: "hypfs_op",
}

XEN_ARGUMENTS: Mapping[str, int] = {
    "set_trap_table": 1,
    "mmu_update": 4,
    "set_gdt": 2,
    "stack_switch": 2,
    "set_callbacks": 3,
    "fpu_taskswitch": 1,
    "platform_op": 1,
    "set_debugreg": 2,
    "get_debugreg": 1,
    "update_descriptor": 2,
    "memory_op": 2,
    "multicall": 2,
    "update_va_mapping": 3,
    "set_timer_op": 1,
    "xen_version": 2,
    "console_io": 3,
    "grant_table_op": 3,
    "vm_assist": 2,
    "update_va_mapping_otherdomain": 4,
    "iret": 0,
    "vcpu_op": 3,
    "set_segment_base": 2,
    "mmuext_op": 4,
    "xsm_op": 1,
    "nmi_op": 2,
    "sched_op": 2,
    "callback_op": 2,
    "xenoprof_op": 2,
    "event_channel_op": 2,
    "physdev_op": 2,
    "hvm_op": 2,
    "sysctl": 1,
    "domctl": 1,
    "kexec_op": 2,
    "xenpmu_op": 2,
    "dm_op": 3,
    "hypfs_op": 5,
}
"""How many arguments a hypercall takes, by its name; the registers of others hold anything."""

XEN_SUB_OPERATIONS: Mapping[str, Mapping[int, str]] = {
    "memory_op": {
        0: "increase_reservation",
        1: "decrease_reservation",
        2: "maximum_ram_page",
        3: "current_reservation",
        4: "maximum_reservation",
        5: "machphys_mfn_list",
        6: "populate_physmap",
        7: "add_to_physmap",
        9: "memory_map",
        10: "machine_memory_map",
        11: "exchange",
        12: "machphys_mapping",
        13: "set_memory_map",
        14: "maximum_gpfn",
        15: "remove_from_physmap",
        16: "set_pod_target",
        17: "get_pod_target",
        18: "get_sharing_freed_pages",
        19: "get_sharing_shared_pages",
        20: "paging_op",
        21: "access_op",
        22: "sharing_op",
        23: "add_to_physmap_batch",
        24: "claim_pages",
        25: "machphys_compat_mfn_list",
        26: "get_vnumainfo",
        27: "reserved_device_memory_map",
        28: "acquire_resource",
    },
    "xen_version": {
        0: "version",
        1: "extraversion",
        2: "compile_info",
        3: "capabilities",
        4: "changeset",
        5: "platform_parameters",
        6: "get_features",
        7: "pagesize",
        8: "guest_handle",
        9: "commandline",
        10: "build_id",
    },
    "console_io": {
        0: "write",
        1: "read",
    },
    "grant_table_op": {
        0: "map_grant_ref",
        1: "unmap_grant_ref",
        2: "setup_table",
        3: "dump_table",
        4: "transfer",
        5: "copy",
        6: "query_size",
        7: "unmap_and_replace",
        8: "set_version",
        9: "get_status_frames",
        10: "get_version",
        11: "swap_grant_ref",
        12: "cache_flush",
    },
    "vcpu_op": {
        0: "initialise",
        1: "up",
        2: "down",
        3: "is_up",
        4: "get_runstate_info",
        5: "register_runstate_memory_area",
        6: "set_periodic_timer",
        7: "stop_periodic_timer",
        8: "set_singleshot_timer",
        9: "stop_singleshot_timer",
        10: "register_vcpu_info",
        11: "send_nmi",
        12: "get_physid",
        13: "register_vcpu_time_memory_area",
    },
    "mmuext_op": {
        0: "pin_l1_table",
        1: "pin_l2_table",
        2: "pin_l3_table",
        3: "pin_l4_table",
        4: "unpin_table",
        5: "new_baseptr",
        6: "tlb_flush_local",
        7: "invlpg_local",
        8: "tlb_flush_multi",
        9: "invlpg_multi",
        10: "tlb_flush_all",
        11: "invlpg_all",
        12: "flush_cache",
        13: "set_ldt",
        15: "new_user_baseptr",
        16: "clear_page",
        17: "copy_page",
        18: "flush_cache_global",
        19: "mark_super",
        20: "unmark_super",
    },
    "sched_op": {
        0: "yield",
        1: "block",
        2: "shutdown",
        3: "poll",
        4: "remote_shutdown",
        5: "shutdown_code",
        6: "watchdog",
        7: "pin_override",
    },
    "callback_op": {
        0: "register",
        1: "unregister",
    },
    "event_channel_op": {
        0: "bind_interdomain",
        1: "bind_virq",
        2: "bind_pirq",
        3: "close",
        4: "send",
        5: "status",
        6: "alloc_unbound",
        7: "bind_ipi",
        8: "bind_vcpu",
        9: "unmask",
        10: "reset",
        11: "init_control",
        12: "expand_array",
        13: "set_priority",
        14: "reset_cont",
    },
    "physdev_op": {
        4: "irq_unmask_notify",
        5: "irq_status_query",
        6: "set_iopl",
        7: "set_iobitmap",
        8: "apic_read",
        9: "apic_write",
        10: "alloc_irq_vector",
        11: "free_irq_vector",
        12: "eoi",
        13: "map_pirq",
        14: "unmap_pirq",
        15: "manage_pci_add",
        16: "manage_pci_remove",
        17: "pirq_eoi_gmfn_v1",
        19: "restore_msi",
        20: "manage_pci_add_ext",
        21: "setup_gsi",
        23: "get_free_pirq",
        24: "pci_mmcfg_reserved",
        25: "pci_device_add",
        26: "pci_device_remove",
        27: "restore_msi_ext",
        28: "pirq_eoi_gmfn_v2",
        29: "dbgp_op",
        30: "prepare_msix",
        31: "release_msix",
    },
}
"""By the name of the hypercall that has them."""

IN_LISTS = frozenset({"mmuext_op"})
"""Those whose sub-operations are in what their first argument points to."""

KVM_ARGUMENTS = 4

KVM_HYPERCALLS: Mapping[int, str] = {
    1: "vapic_poll_irq",
    5: "kick_cpu",
    9: "clock_pairing",
    10: "send_ipi",
    11: "sched_yield",
    12: "map_gpa_range",
}

SHUTDOWN_REASONS: Mapping[int, str] = {
    0: "poweroff",
    1: "reboot",
    2: "suspend",
    3: "crash",
    4: "watchdog",
    5: "soft_reset",
}


def hypercall_name(names: Mapping[int, str], number: int) -> str:
    """The name of a number; -1 stands for those beyond the table."""
    return "beyond the table" if number < 0 else names.get(number, f"hypercall {number}")


def sub_operation_name(hypercall: str, number: int) -> str:
    """The name of a sub-operation of one of Xen's; -1 stands for those that are not tallied one by one."""
    return "others" if number < 0 else XEN_SUB_OPERATIONS.get(hypercall, {}).get(number, str(number))


def call_in_words(names: Mapping[int, str], number: int, arguments: Sequence[int]) -> str:
    """A call as one writes it: ``sched_op(block, 0x0)``."""
    name = hypercall_name(names, number)
    words = [f"{value:#x}" for value in arguments]
    if names is KVM_HYPERCALLS:
        return f"{name}({', '.join(words[:KVM_ARGUMENTS])})"
    if name in XEN_SUB_OPERATIONS and name not in IN_LISTS:
        words[0] = sub_operation_name(name, arguments[0] & 0xFFFF_FFFF)
    return f"{name}({', '.join(words[: XEN_ARGUMENTS.get(name, len(words))])})"
