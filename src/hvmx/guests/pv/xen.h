/* Xen's 64-bit paravirtual interface, as far as this guest uses it: the numbers and layouts of Xen's public
 * headers (xen.h, arch-x86/xen-x86_64.h, callback.h, event_channel.h, vcpu.h, sched.h, physdev.h, io/console.h),
 * under names of our own so that both can be included together and compared. */
#pragma once

#define XEN_VIRT_BASE 0xffffffff80000000 /* the address that this guest asks for */

/* Hypercall numbers. */
#define XEN_SET_TRAP_TABLE    0
#define XEN_MMU_UPDATE        1
#define XEN_STACK_SWITCH      3
#define XEN_MULTICALL         13
#define XEN_UPDATE_VA_MAPPING 14
#define XEN_VERSION           17
#define XEN_CONSOLE_IO        18
#define XEN_IRET              23
#define XEN_VCPU_OP           24
#define XEN_MMUEXT_OP         26
#define XEN_SCHED_OP          29
#define XEN_CALLBACK_OP       30
#define XEN_EVENT_CHANNEL_OP  32
#define XEN_PHYSDEV_OP        33

/* Selectors of Xen's GDT; kernel and user share them, both run in ring 3. */
#define XEN_CODE  0xe033
#define XEN_STACK 0xe02b

/* In the flags word of an iret frame: the trap was a system call, RCX and R11 need not survive. */
#define XEN_IRET_IN_SYSCALL 0x100

#ifndef __ASSEMBLER__
#include <stdint.h>

#define XEN_MACHINE_TO_PHYSICAL ((const unsigned long *)0xffff800000000000)

struct xen_trap_info {
    uint8_t vector;
    uint8_t flags; /* bits 0-1: who may raise it by INT; bit 2: events are masked on entry */
    uint16_t selector;
    unsigned long address;
};
#define XEN_TRAP_FROM_USER   3
#define XEN_TRAP_MASK_EVENTS 4

struct xen_callback_register {
    uint16_t type;
    uint16_t flags;
    unsigned long address;
};
#define XEN_CALLBACK_REGISTER    0
#define XEN_CALLBACK_EVENT       0
#define XEN_CALLBACK_FAILSAFE    1
#define XEN_CALLBACK_SYSCALL     2
#define XEN_CALLBACK_MASK_EVENTS 1

struct xen_mmu_update {
    uint64_t pointer; /* machine address of the entry; the low bits are the kind of update */
    uint64_t value;
};
#define XEN_MMU_NORMAL 0
#define XEN_DOMAIN_SELF 0x7ff0

struct xen_mmuext_op {
    unsigned command;
    union {
        unsigned long frame;
        unsigned long address;
    };
    unsigned long second;
};
#define XEN_MMUEXT_PIN_LEVEL4  3
#define XEN_MMUEXT_UNPIN       4
#define XEN_MMUEXT_NEW_BASE    5
#define XEN_MMUEXT_FLUSH_LOCAL 6
#define XEN_MMUEXT_INVLPG      7
#define XEN_MMUEXT_NEW_USER    15

#define XEN_FLUSH_ONE 2 /* update_va_mapping: the one entry, on this processor */

struct xen_multicall {
    unsigned long operation, result;
    unsigned long arguments[6];
};

struct xen_vcpu_time {
    uint32_t version, unused;
    uint64_t tsc, nanoseconds;
    uint32_t multiplier;
    int8_t shift;
    uint8_t flags, unused2[2];
};

struct xen_vcpu_info {
    uint8_t upcall_pending, upcall_mask;
    unsigned long pending_selector;
    unsigned long fault_address, unused;
    struct xen_vcpu_time time;
};

struct xen_shared_info {
    struct xen_vcpu_info vcpus[32];
    unsigned long pending[64], mask[64];
};

struct xen_start_info {
    char magic[32];
    unsigned long page_count;
    unsigned long shared_info; /* machine address */
    uint32_t flags;
    unsigned long store_frame;
    uint32_t store_channel;
    unsigned long console_frame; /* these two for an unprivileged domain */
    uint32_t console_channel;
    unsigned long root_table; /* from here on virtual addresses */
    unsigned long table_count;
    unsigned long frame_list;
    unsigned long module, module_bytes;
    char command_line[1024];
};
#define XEN_START_INITIAL_DOMAIN 2

#define XEN_CONSOLE_WRITE 0
struct xen_console_ring {
    char in[1024], out[2048];
    uint32_t in_consumer, in_producer, out_consumer, out_producer;
};

struct xen_bind_virq {
    uint32_t virq, vcpu, port;
};
#define XEN_EVENT_BIND_VIRQ 1
#define XEN_EVENT_SEND      4
#define XEN_VIRQ_TIMER      0

struct xen_singleshot_timer {
    uint64_t at_nanoseconds;
    uint32_t flags;
};
#define XEN_VCPU_STOP_PERIODIC  7
#define XEN_VCPU_SET_SINGLESHOT 8
#define XEN_VCPU_STOP_SINGLESHOT 9

#define XEN_SCHED_YIELD       0
#define XEN_SCHED_SHUTDOWN    2
#define XEN_SHUTDOWN_POWEROFF 0
#define XEN_SHUTDOWN_CRASH    3

#define XEN_PHYSDEV_SET_IOPL 6
#endif
