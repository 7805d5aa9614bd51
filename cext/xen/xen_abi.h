/* Xen's public ABI for 64-bit PV guests: the numbers and structures that hvmx implements, under Xen's names. They are
 * checked against Xen's own headers (libxen-dev) by tests/pv/test_abi.py.
 *
 * Of the structures that pass between guest and hypervisor each field says who writes it: the guest, for the hypervisor to
 * read (in); the hypervisor (out); or both. What a pointer points at is marked behind it. "unread": the guest may say what
 * it likes. */
#ifndef HVMX_XEN_ABI_H
#define HVMX_XEN_ABI_H

#include <stdint.h>

enum { XEN_EPERM = 1, XEN_ENOENT = 2, XEN_ESRCH = 3, XEN_ENXIO = 6, XEN_E2BIG = 7, XEN_EAGAIN = 11, XEN_ENOMEM = 12, XEN_EACCES = 13,
       XEN_EFAULT = 14, XEN_EBUSY = 16, XEN_EEXIST = 17, XEN_ENODEV = 19, XEN_EINVAL = 22, XEN_ENOSPC = 28, XEN_ENOSYS = 38,
       XEN_ENODATA = 61, XEN_EOVERFLOW = 75, XEN_EOPNOTSUPP = 95 };

enum {
    __HYPERVISOR_set_trap_table = 0,
    __HYPERVISOR_mmu_update = 1,
    __HYPERVISOR_set_gdt = 2,
    __HYPERVISOR_stack_switch = 3,
    __HYPERVISOR_set_callbacks = 4,
    __HYPERVISOR_fpu_taskswitch = 5,
    __HYPERVISOR_platform_op = 7,
    __HYPERVISOR_set_debugreg = 8,
    __HYPERVISOR_get_debugreg = 9,
    __HYPERVISOR_update_descriptor = 10,
    __HYPERVISOR_memory_op = 12,
    __HYPERVISOR_multicall = 13,
    __HYPERVISOR_update_va_mapping = 14,
    __HYPERVISOR_set_timer_op = 15,
    __HYPERVISOR_xen_version = 17,
    __HYPERVISOR_console_io = 18,
    __HYPERVISOR_grant_table_op = 20,
    __HYPERVISOR_vm_assist = 21,
    __HYPERVISOR_update_va_mapping_otherdomain = 22,
    __HYPERVISOR_iret = 23,
    __HYPERVISOR_vcpu_op = 24,
    __HYPERVISOR_set_segment_base = 25,
    __HYPERVISOR_mmuext_op = 26,
    __HYPERVISOR_xsm_op = 27,
    __HYPERVISOR_nmi_op = 28,
    __HYPERVISOR_sched_op = 29,
    __HYPERVISOR_callback_op = 30,
    __HYPERVISOR_xenoprof_op = 31,
    __HYPERVISOR_event_channel_op = 32,
    __HYPERVISOR_physdev_op = 33,
    __HYPERVISOR_hvm_op = 34,
    __HYPERVISOR_sysctl = 35,
    __HYPERVISOR_domctl = 36,
    __HYPERVISOR_kexec_op = 37,
};

#define DOMID_SELF 0x7ff0u
#define DOMID_IO 0x7ff1u

/* --- memory ------------------------------------------------------------------------------------------------------- */
#define HYPERVISOR_VIRT_START 0xffff800000000000ull
#define HYPERVISOR_VIRT_END 0xffff880000000000ull
#define MACH2PHYS_VIRT_START 0xffff800000000000ull
#define MACH2PHYS_VIRT_END 0xffff804000000000ull

enum { MMU_NORMAL_PT_UPDATE = 0, MMU_MACHPHYS_UPDATE = 1, MMU_PT_UPDATE_PRESERVE_AD = 2, MMU_PT_UPDATE_NO_TRANSLATE = 3 };
/* In the count of mmu_update and mmuext_op: the call goes on where it was preempted, and *pdone already counts. */
#define MMU_UPDATE_PREEMPTED (1u << 31)

struct mmu_update {
    uint64_t ptr;  /* in: machine address of the entry, with a command in its low bits */
    uint64_t val;  /* in */
};

enum { MMUEXT_PIN_L1_TABLE = 0, MMUEXT_PIN_L2_TABLE = 1, MMUEXT_PIN_L3_TABLE = 2, MMUEXT_PIN_L4_TABLE = 3,
       MMUEXT_UNPIN_TABLE = 4, MMUEXT_NEW_BASEPTR = 5, MMUEXT_TLB_FLUSH_LOCAL = 6, MMUEXT_INVLPG_LOCAL = 7,
       MMUEXT_TLB_FLUSH_MULTI = 8, MMUEXT_INVLPG_MULTI = 9, MMUEXT_TLB_FLUSH_ALL = 10, MMUEXT_INVLPG_ALL = 11,
       MMUEXT_FLUSH_CACHE = 12, MMUEXT_SET_LDT = 13, MMUEXT_NEW_USER_BASEPTR = 15, MMUEXT_CLEAR_PAGE = 16,
       MMUEXT_COPY_PAGE = 17, MMUEXT_FLUSH_CACHE_GLOBAL = 18, MMUEXT_MARK_SUPER = 19, MMUEXT_UNMARK_SUPER = 20 };

struct mmuext_op {
    uint32_t cmd;                                                  /* in */
    union { uint64_t mfn, linear_addr; } arg1;                     /* in */
    union { uint32_t nr_ents; uint64_t vcpumask, src_mfn; } arg2;  /* in; vcpumask points at: in */
};

enum { UVMF_NONE = 0, UVMF_TLB_FLUSH = 1, UVMF_INVLPG = 2, UVMF_FLUSHTYPE_MASK = 3, UVMF_ALL = 4 };

enum { XENMEM_increase_reservation = 0, XENMEM_decrease_reservation = 1, XENMEM_maximum_ram_page = 2,
       XENMEM_current_reservation = 3, XENMEM_maximum_reservation = 4, XENMEM_machphys_mfn_list = 5,
       XENMEM_populate_physmap = 6, XENMEM_memory_map = 9, XENMEM_machine_memory_map = 10,
       XENMEM_machphys_mapping = 12, XENMEM_maximum_gpfn = 14 };
/* The command word of memory_op carries the extent to go on with above this bit. */
#define MEMOP_EXTENT_SHIFT 6

struct xen_memory_reservation {
    uint64_t extent_start;  /* in; points at frames: in (decrease), out (increase), in and out (populate) */
    uint64_t nr_extents;    /* in */
    uint32_t extent_order;  /* in */
    uint32_t mem_flags;     /* in, unread */
    uint16_t domid;         /* in */
};
struct xen_machphys_mapping {
    uint64_t v_start;  /* out */
    uint64_t v_end;    /* out */
    uint64_t max_mfn;  /* out */
};
struct xen_memory_map {
    uint32_t nr_entries;  /* in: room; out: entries */
    uint64_t buffer;      /* in; points at e820 entries: out */
};
struct e820_entry {
    uint64_t addr;  /* out */
    uint64_t size;  /* out */
    uint32_t type;  /* out */
} __attribute__((packed));

enum { GNTTABOP_setup_table = 2, GNTTABOP_query_size = 6, GNTTABOP_set_version = 8, GNTTABOP_get_version = 10 };
enum { GNTST_okay = 0, GNTST_general_error = -1, GNTST_bad_domain = -2, GNTST_bad_virt_addr = -5 };

struct gnttab_setup_table {
    uint16_t dom;         /* in */
    uint32_t nr_frames;   /* in */
    int16_t status;       /* out */
    uint64_t frame_list;  /* in; points at frames: out */
};
struct gnttab_query_size {
    uint16_t dom;            /* in */
    uint32_t nr_frames;      /* out */
    uint32_t max_nr_frames;  /* out */
    int16_t status;          /* out */
};
struct gnttab_set_version {
    uint32_t version;  /* in, out */
};
struct gnttab_get_version {
    uint16_t dom;      /* in */
    uint16_t pad;      /* unread */
    uint32_t version;  /* out */
};

/* --- the processor ------------------------------------------------------------------------------------------------ */
enum { FIRST_RESERVED_GDT_PAGE = 14, FIRST_RESERVED_GDT_ENTRY = 14 * 512 };
enum { FLAT_RING3_CS32 = 0xe023, FLAT_RING3_SS32 = 0xe02b, FLAT_KERNEL_CS64 = 0xe033, FLAT_KERNEL_SS = 0xe02b,
       FLAT_USER_CS64 = 0xe033, FLAT_USER_SS = 0xe02b };

struct trap_info {
    uint8_t vector;    /* in */
    uint8_t flags;     /* in */
    uint16_t cs;       /* in */
    uint64_t address;  /* in */
};
struct iret_context {
    uint64_t rax;     /* in */
    uint64_t r11;     /* in */
    uint64_t rcx;     /* in */
    uint64_t flags;   /* in */
    uint64_t rip;     /* in */
    uint64_t cs;      /* in */
    uint64_t rflags;  /* in */
    uint64_t rsp;     /* in */
    uint64_t ss;      /* in */
};
#define VGCF_in_syscall (1 << 8)

enum { SEGBASE_FS = 0, SEGBASE_GS_USER = 1, SEGBASE_GS_KERNEL = 2, SEGBASE_GS_USER_SEL = 3 };

enum { CALLBACKOP_register = 0, CALLBACKOP_unregister = 1 };
enum { CALLBACKTYPE_event = 0, CALLBACKTYPE_failsafe = 1, CALLBACKTYPE_syscall = 2, CALLBACKTYPE_nmi = 4,
       CALLBACKTYPE_sysenter = 5, CALLBACKTYPE_syscall32 = 7 };
#define CALLBACKF_mask_events 1
struct callback_register {
    uint16_t type;     /* in */
    uint16_t flags;    /* in */
    uint64_t address;  /* in */
};
struct callback_unregister {
    uint16_t type;     /* in */
    uint16_t _unused;  /* unread */
};

/* --- events and time ---------------------------------------------------------------------------------------------- */
struct vcpu_time_info {
    uint32_t version;            /* out */
    uint32_t pad0;               /* unread */
    uint64_t tsc_timestamp;      /* out */
    uint64_t system_time;        /* out */
    uint32_t tsc_to_system_mul;  /* out */
    int8_t tsc_shift;            /* out */
    uint8_t flags;               /* out */
    uint8_t pad1[2];             /* unread */
};
#define XEN_PVCLOCK_TSC_STABLE_BIT 1
struct vcpu_info {
    uint8_t evtchn_upcall_pending;       /* out; in: the guest clears it */
    uint8_t evtchn_upcall_mask;          /* in, out */
    uint64_t evtchn_pending_sel;         /* out; in: the guest clears it */
    struct { uint64_t cr2, pad; } arch;  /* out; in: by MOV to CR2 */
    struct vcpu_time_info time;          /* out */
};
#define XEN_LEGACY_MAX_VCPUS 32
struct shared_info {
    struct vcpu_info vcpu_info[XEN_LEGACY_MAX_VCPUS];  /* as above */
    uint64_t evtchn_pending[64];                       /* out; in: the guest clears them */
    uint64_t evtchn_mask[64];                          /* in; out: EVTCHNOP_unmask clears one */
    uint32_t wc_version;                               /* out */
    uint32_t wc_sec;                                   /* out */
    uint32_t wc_nsec;                                  /* out */
    uint32_t wc_sec_hi;                                /* out */
    struct {
        uint64_t max_pfn;                              /* out, then in: XENMEM_maximum_gpfn */
        uint64_t pfn_to_mfn_frame_list_list;           /* in, unread */
        uint64_t nmi_reason;                           /* out: 0 */
        uint64_t p2m_cr3;                              /* in, unread */
        uint64_t p2m_vaddr;                            /* in, unread */
        uint64_t p2m_generation;                       /* in, unread */
    } arch;
};

enum { VIRQ_TIMER = 0, VIRQ_DEBUG = 1, VIRQ_CONSOLE = 2, VIRQ_XENOPROF = 7, VIRQ_ARCH_0 = 16, NR_VIRQS = 24, EVTCHN_2L_NR_CHANNELS = 4096 };
enum { EVTCHNOP_bind_interdomain = 0, EVTCHNOP_bind_virq = 1, EVTCHNOP_bind_pirq = 2, EVTCHNOP_close = 3,
       EVTCHNOP_send = 4, EVTCHNOP_status = 5, EVTCHNOP_alloc_unbound = 6, EVTCHNOP_bind_ipi = 7, EVTCHNOP_bind_vcpu = 8,
       EVTCHNOP_unmask = 9, EVTCHNOP_reset = 10 };
enum { EVTCHNSTAT_closed = 0, EVTCHNSTAT_unbound = 1, EVTCHNSTAT_interdomain = 2, EVTCHNSTAT_pirq = 3,
       EVTCHNSTAT_virq = 4, EVTCHNSTAT_ipi = 5 };
struct evtchn_alloc_unbound {
    uint16_t dom;         /* in */
    uint16_t remote_dom;  /* in */
    uint32_t port;        /* out */
};
struct evtchn_bind_interdomain {
    uint16_t remote_dom;   /* in */
    uint32_t remote_port;  /* in */
    uint32_t local_port;   /* out */
};
struct evtchn_bind_virq {
    uint32_t virq;  /* in */
    uint32_t vcpu;  /* in */
    uint32_t port;  /* out */
};
struct evtchn_bind_ipi {
    uint32_t vcpu;  /* in */
    uint32_t port;  /* out */
};
struct evtchn_port { /* evtchn_close, evtchn_send, evtchn_unmask */
    uint32_t port;  /* in */
};
struct evtchn_status {
    uint16_t dom;                                             /* in */
    uint32_t port;                                            /* in */
    uint32_t status;                                          /* out */
    uint32_t vcpu;                                            /* out */
    union {
        struct { uint16_t dom; } unbound;                     /* out */
        struct { uint16_t dom; uint32_t port; } interdomain;  /* out */
        uint32_t pirq, virq;                                  /* out */
    } u;
};
struct evtchn_bind_vcpu {
    uint32_t port;  /* in */
    uint32_t vcpu;  /* in */
};

enum { SCHEDOP_yield = 0, SCHEDOP_block = 1, SCHEDOP_shutdown = 2, SCHEDOP_poll = 3, SCHEDOP_shutdown_code = 5 };
enum { SHUTDOWN_poweroff = 0, SHUTDOWN_reboot = 1, SHUTDOWN_suspend = 2, SHUTDOWN_crash = 3, SHUTDOWN_watchdog = 4,
       SHUTDOWN_soft_reset = 5, SHUTDOWN_MAX = 5 };
struct sched_shutdown {
    uint32_t reason;  /* in */
};
struct sched_poll {
    uint64_t ports;     /* in; points at ports: in */
    uint32_t nr_ports;  /* in */
    uint64_t timeout;   /* in: system time, 0: none */
};

enum { VCPUOP_up = 1, VCPUOP_is_up = 3, VCPUOP_get_runstate_info = 4, VCPUOP_register_runstate_memory_area = 5,
       VCPUOP_set_periodic_timer = 6, VCPUOP_stop_periodic_timer = 7, VCPUOP_set_singleshot_timer = 8,
       VCPUOP_stop_singleshot_timer = 9, VCPUOP_register_vcpu_info = 10, VCPUOP_send_nmi = 11, VCPUOP_get_physid = 12,
       VCPUOP_register_vcpu_time_memory_area = 13 };
enum { RUNSTATE_running = 0, RUNSTATE_runnable = 1, RUNSTATE_blocked = 2, RUNSTATE_offline = 3 };
struct vcpu_runstate_info {
    int32_t state;              /* out */
    uint64_t state_entry_time;  /* out */
    uint64_t time[4];           /* out */
};
struct vcpu_set_singleshot_timer {
    uint64_t timeout_abs_ns;  /* in */
    uint32_t flags;           /* in, unread */
};
struct vcpu_register_vcpu_info {
    uint64_t mfn;     /* in */
    uint32_t offset;  /* in */
    uint32_t rsvd;    /* unread */
};

/* --- the rest ----------------------------------------------------------------------------------------------------- */
enum { CONSOLEIO_write = 0, CONSOLEIO_read = 1 };
enum { XENVER_version = 0, XENVER_extraversion = 1, XENVER_compile_info = 2, XENVER_capabilities = 3, XENVER_changeset = 4,
       XENVER_platform_parameters = 5, XENVER_get_features = 6, XENVER_pagesize = 7, XENVER_guest_handle = 8,
       XENVER_commandline = 9, XENVER_build_id = 10 };
struct xen_compile_info {
    char compiler[64];        /* out */
    char compile_by[16];      /* out */
    char compile_domain[32];  /* out */
    char compile_date[32];    /* out */
};
struct xen_feature_info {
    uint32_t submap_idx;  /* in */
    uint32_t submap;      /* out */
};
enum { XENFEAT_writable_page_tables = 0, XENFEAT_pae_pgdir_above_4gb = 4, XENFEAT_mmu_pt_update_preserve_ad = 5,
       XENFEAT_highmem_assist = 6, XENFEAT_gnttab_map_avail_bits = 7, XENFEAT_dom0 = 11,
       XENFEAT_memory_op_vnode_supported = 13 };
#define XENFEAT_NR_SUBMAPS 1
enum { VMASST_CMD_enable = 0, VMASST_CMD_disable = 1 };
enum { VMASST_TYPE_4gb_segments = 0, VMASST_TYPE_4gb_segments_notify = 1, VMASST_TYPE_writable_pagetables = 2,
       VMASST_TYPE_pae_extended_cr3 = 3, VMASST_TYPE_architectural_iopl = 4, VMASST_TYPE_runstate_update_flag = 5,
       VMASST_TYPE_m2p_strict = 32 };
enum { PHYSDEVOP_set_iopl = 6, PHYSDEVOP_set_iobitmap = 7 };
struct physdev_set_iopl {
    uint32_t iopl;  /* in */
};
struct physdev_set_iobitmap {
    uint64_t bitmap;    /* in; points at a bit for each port: in */
    uint32_t nr_ports;  /* in */
};
struct multicall_entry {
    uint64_t op;       /* in */
    uint64_t result;   /* out */
    uint64_t args[6];  /* in; out where the call is preempted: those that it goes on with */
};

enum { SIF_PRIVILEGED = 1, SIF_INITDOMAIN = 2, SIF_MOD_START_PFN = 8 };
struct start_info {
    char magic[32];                                      /* out */
    uint64_t nr_pages;                                   /* out */
    uint64_t shared_info;                                /* out */
    uint32_t flags;                                      /* out */
    uint64_t store_mfn;                                  /* out */
    uint32_t store_evtchn;                               /* out */
    union {
        struct { uint64_t mfn; uint32_t evtchn; } domU;  /* out */
        struct { uint32_t info_off, info_size; } dom0;   /* out */
    } console;
    uint64_t pt_base;                                    /* out */
    uint64_t nr_pt_frames;                               /* out */
    uint64_t mfn_list;                                   /* out */
    uint64_t mod_start;                                  /* out */
    uint64_t mod_len;                                    /* out */
    int8_t cmd_line[1024];                               /* out */
    uint64_t first_p2m_pfn;                              /* out */
    uint64_t nr_p2m_frames;                              /* out */
};
struct xencons_interface {
    char in[1024];      /* out: what is typed */
    char out[2048];     /* in: what is printed */
    uint32_t in_cons;   /* in */
    uint32_t in_prod;   /* out */
    uint32_t out_cons;  /* out */
    uint32_t out_prod;  /* in */
};

#endif
