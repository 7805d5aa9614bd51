/* Compiles only where the bundled guest's idea of Xen's interface (src/hvmx/guests/pv/xen.h) is Xen's own. */
#include <stddef.h>
#include <stdint.h>

#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <xen/xen.h>
#include <xen/callback.h>
#include <xen/event_channel.h>
#include <xen/io/console.h>
#include <xen/physdev.h>
#include <xen/sched.h>
#include <xen/vcpu.h>

#include "xen.h"

#define SAME(ours, theirs) _Static_assert((ours) == (theirs), #ours " is not " #theirs)
#define FIELD(ours, our_field, theirs, their_field) \
    SAME(offsetof(ours, our_field), offsetof(theirs, their_field)); \
    SAME(sizeof(((ours *)0)->our_field), sizeof(((theirs *)0)->their_field))

SAME(XEN_SET_TRAP_TABLE, __HYPERVISOR_set_trap_table);
SAME(XEN_MMU_UPDATE, __HYPERVISOR_mmu_update);
SAME(XEN_STACK_SWITCH, __HYPERVISOR_stack_switch);
SAME(XEN_MULTICALL, __HYPERVISOR_multicall);
SAME(XEN_UPDATE_VA_MAPPING, __HYPERVISOR_update_va_mapping);
SAME(XEN_VERSION, __HYPERVISOR_xen_version);
SAME(XEN_CONSOLE_IO, __HYPERVISOR_console_io);
SAME(XEN_IRET, __HYPERVISOR_iret);
SAME(XEN_VCPU_OP, __HYPERVISOR_vcpu_op);
SAME(XEN_MMUEXT_OP, __HYPERVISOR_mmuext_op);
SAME(XEN_SCHED_OP, __HYPERVISOR_sched_op);
SAME(XEN_CALLBACK_OP, __HYPERVISOR_callback_op);
SAME(XEN_EVENT_CHANNEL_OP, __HYPERVISOR_event_channel_op);
SAME(XEN_PHYSDEV_OP, __HYPERVISOR_physdev_op);

SAME(XEN_CODE, FLAT_KERNEL_CS64);
SAME(XEN_CODE, FLAT_USER_CS64);
SAME(XEN_STACK, FLAT_KERNEL_SS64);
SAME(XEN_STACK, FLAT_USER_SS64);
SAME(XEN_IRET_IN_SYSCALL, VGCF_in_syscall);
SAME((unsigned long)XEN_MACHINE_TO_PHYSICAL, MACH2PHYS_VIRT_START);

SAME(sizeof(struct xen_trap_info), sizeof(struct trap_info));
FIELD(struct xen_trap_info, vector, struct trap_info, vector);
FIELD(struct xen_trap_info, flags, struct trap_info, flags);
FIELD(struct xen_trap_info, selector, struct trap_info, cs);
FIELD(struct xen_trap_info, address, struct trap_info, address);

SAME(sizeof(struct xen_callback_register), sizeof(struct callback_register));
FIELD(struct xen_callback_register, type, struct callback_register, type);
FIELD(struct xen_callback_register, flags, struct callback_register, flags);
FIELD(struct xen_callback_register, address, struct callback_register, address);
SAME(XEN_CALLBACK_REGISTER, CALLBACKOP_register);
SAME(XEN_CALLBACK_EVENT, CALLBACKTYPE_event);
SAME(XEN_CALLBACK_FAILSAFE, CALLBACKTYPE_failsafe);
SAME(XEN_CALLBACK_SYSCALL, CALLBACKTYPE_syscall);
SAME(XEN_CALLBACK_MASK_EVENTS, CALLBACKF_mask_events);

SAME(sizeof(struct xen_mmu_update), sizeof(struct mmu_update));
FIELD(struct xen_mmu_update, pointer, struct mmu_update, ptr);
FIELD(struct xen_mmu_update, value, struct mmu_update, val);
SAME(XEN_MMU_NORMAL, MMU_NORMAL_PT_UPDATE);
SAME(XEN_DOMAIN_SELF, DOMID_SELF);

SAME(sizeof(struct xen_mmuext_op), sizeof(struct mmuext_op));
FIELD(struct xen_mmuext_op, command, struct mmuext_op, cmd);
FIELD(struct xen_mmuext_op, frame, struct mmuext_op, arg1.mfn);
FIELD(struct xen_mmuext_op, address, struct mmuext_op, arg1.linear_addr);
FIELD(struct xen_mmuext_op, second, struct mmuext_op, arg2);
SAME(XEN_MMUEXT_PIN_LEVEL4, MMUEXT_PIN_L4_TABLE);
SAME(XEN_MMUEXT_UNPIN, MMUEXT_UNPIN_TABLE);
SAME(XEN_MMUEXT_NEW_BASE, MMUEXT_NEW_BASEPTR);
SAME(XEN_MMUEXT_FLUSH_LOCAL, MMUEXT_TLB_FLUSH_LOCAL);
SAME(XEN_MMUEXT_INVLPG, MMUEXT_INVLPG_LOCAL);
SAME(XEN_MMUEXT_NEW_USER, MMUEXT_NEW_USER_BASEPTR);
SAME(XEN_FLUSH_ONE, UVMF_INVLPG | UVMF_LOCAL);

SAME(sizeof(struct xen_multicall), sizeof(struct multicall_entry));
FIELD(struct xen_multicall, operation, struct multicall_entry, op);
FIELD(struct xen_multicall, result, struct multicall_entry, result);
FIELD(struct xen_multicall, arguments, struct multicall_entry, args);

SAME(sizeof(struct xen_vcpu_time), sizeof(struct vcpu_time_info));
FIELD(struct xen_vcpu_time, version, struct vcpu_time_info, version);
FIELD(struct xen_vcpu_time, tsc, struct vcpu_time_info, tsc_timestamp);
FIELD(struct xen_vcpu_time, nanoseconds, struct vcpu_time_info, system_time);
FIELD(struct xen_vcpu_time, multiplier, struct vcpu_time_info, tsc_to_system_mul);
FIELD(struct xen_vcpu_time, shift, struct vcpu_time_info, tsc_shift);
FIELD(struct xen_vcpu_time, flags, struct vcpu_time_info, flags);

SAME(sizeof(struct xen_vcpu_info), sizeof(struct vcpu_info));
FIELD(struct xen_vcpu_info, upcall_pending, struct vcpu_info, evtchn_upcall_pending);
FIELD(struct xen_vcpu_info, upcall_mask, struct vcpu_info, evtchn_upcall_mask);
FIELD(struct xen_vcpu_info, pending_selector, struct vcpu_info, evtchn_pending_sel);
FIELD(struct xen_vcpu_info, fault_address, struct vcpu_info, arch.cr2);
FIELD(struct xen_vcpu_info, time, struct vcpu_info, time);

FIELD(struct xen_shared_info, vcpus, struct shared_info, vcpu_info);
FIELD(struct xen_shared_info, pending, struct shared_info, evtchn_pending);
FIELD(struct xen_shared_info, mask, struct shared_info, evtchn_mask);

FIELD(struct xen_start_info, magic, struct start_info, magic);
FIELD(struct xen_start_info, page_count, struct start_info, nr_pages);
FIELD(struct xen_start_info, shared_info, struct start_info, shared_info);
FIELD(struct xen_start_info, flags, struct start_info, flags);
FIELD(struct xen_start_info, store_frame, struct start_info, store_mfn);
FIELD(struct xen_start_info, store_channel, struct start_info, store_evtchn);
FIELD(struct xen_start_info, console_frame, struct start_info, console.domU.mfn);
FIELD(struct xen_start_info, console_channel, struct start_info, console.domU.evtchn);
FIELD(struct xen_start_info, root_table, struct start_info, pt_base);
FIELD(struct xen_start_info, table_count, struct start_info, nr_pt_frames);
FIELD(struct xen_start_info, frame_list, struct start_info, mfn_list);
FIELD(struct xen_start_info, module, struct start_info, mod_start);
FIELD(struct xen_start_info, module_bytes, struct start_info, mod_len);
FIELD(struct xen_start_info, command_line, struct start_info, cmd_line);
SAME(XEN_START_INITIAL_DOMAIN, SIF_INITDOMAIN);

SAME(XEN_CONSOLE_WRITE, CONSOLEIO_write);
SAME(sizeof(struct xen_console_ring), sizeof(struct xencons_interface));
FIELD(struct xen_console_ring, in, struct xencons_interface, in);
FIELD(struct xen_console_ring, out, struct xencons_interface, out);
FIELD(struct xen_console_ring, in_consumer, struct xencons_interface, in_cons);
FIELD(struct xen_console_ring, in_producer, struct xencons_interface, in_prod);
FIELD(struct xen_console_ring, out_consumer, struct xencons_interface, out_cons);
FIELD(struct xen_console_ring, out_producer, struct xencons_interface, out_prod);

SAME(sizeof(struct xen_bind_virq), sizeof(struct evtchn_bind_virq));
FIELD(struct xen_bind_virq, virq, struct evtchn_bind_virq, virq);
FIELD(struct xen_bind_virq, vcpu, struct evtchn_bind_virq, vcpu);
FIELD(struct xen_bind_virq, port, struct evtchn_bind_virq, port);
SAME(XEN_EVENT_BIND_VIRQ, EVTCHNOP_bind_virq);
SAME(XEN_EVENT_SEND, EVTCHNOP_send);
SAME(XEN_VIRQ_TIMER, VIRQ_TIMER);

SAME(sizeof(struct xen_singleshot_timer), sizeof(struct vcpu_set_singleshot_timer));
FIELD(struct xen_singleshot_timer, at_nanoseconds, struct vcpu_set_singleshot_timer, timeout_abs_ns);
FIELD(struct xen_singleshot_timer, flags, struct vcpu_set_singleshot_timer, flags);
SAME(XEN_VCPU_STOP_PERIODIC, VCPUOP_stop_periodic_timer);
SAME(XEN_VCPU_SET_SINGLESHOT, VCPUOP_set_singleshot_timer);
SAME(XEN_VCPU_STOP_SINGLESHOT, VCPUOP_stop_singleshot_timer);

SAME(XEN_SCHED_YIELD, SCHEDOP_yield);
SAME(XEN_SCHED_SHUTDOWN, SCHEDOP_shutdown);
SAME(XEN_SHUTDOWN_POWEROFF, SHUTDOWN_poweroff);
SAME(XEN_SHUTDOWN_CRASH, SHUTDOWN_crash);
SAME(XEN_PHYSDEV_SET_IOPL, PHYSDEVOP_set_iopl);
