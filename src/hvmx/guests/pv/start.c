/* pv64: the first C function, and the end of the guest. */
#include "../common/env.h"
#include "../common/panic.h"
#include "console.h"
#include "events.h"
#include "hypercall.h"
#include "paging.h"

#define EXCEPTIONS 20
#define STUB_BYTES 16
#define KERNEL_IOPL 1 /* Xen's virtual IOPL: the kernel counts as level 1 */

extern char trap_stubs[], event_entry[], failsafe_entry[], system_call_entry[];
extern char image_end[];

const char env_name[] = "pv64";
const struct xen_start_info *start_info;
volatile struct xen_shared_info *shared_info;

static char shared_info_window[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));

static void traps_init(void)
{
    struct xen_trap_info table[EXCEPTIONS + 1] = {0}; /* the last one terminates it */
    unsigned count = 0;
    for (unsigned vector = 0; vector < EXCEPTIONS; vector++) {
        /* Xen keeps NMI and the double fault to itself; 9 and 15 are reserved (SDM vol. 3, 6.3.1). */
        if (vector == 2 || vector == 8 || vector == 9 || vector == 15)
            continue;
        table[count++] = (struct xen_trap_info){
            .vector = vector,
            .flags = XEN_TRAP_MASK_EVENTS | (vector == VECTOR_BREAKPOINT ? XEN_TRAP_FROM_USER : 0),
            .selector = XEN_CODE,
            .address = (uintptr_t)trap_stubs + vector * STUB_BYTES,
        };
    }
    if (hypercall2(XEN_SET_TRAP_TABLE, (uintptr_t)table, 0) < 0)
        panic("set_trap_table failed");

    const struct xen_callback_register callbacks[] = {
        {XEN_CALLBACK_EVENT, XEN_CALLBACK_MASK_EVENTS, (uintptr_t)event_entry},
        {XEN_CALLBACK_FAILSAFE, XEN_CALLBACK_MASK_EVENTS, (uintptr_t)failsafe_entry},
        {XEN_CALLBACK_SYSCALL, XEN_CALLBACK_MASK_EVENTS, (uintptr_t)system_call_entry},
    };
    for (unsigned i = 0; i < 3; i++)
        if (hypercall2(XEN_CALLBACK_OP, XEN_CALLBACK_REGISTER, (uintptr_t)&callbacks[i]) < 0)
            panic("callback_op failed");
}

_Noreturn void pv_start(const struct xen_start_info *info)
{
    start_info = info;
    map_machine_frame(shared_info_window, info->shared_info / PAGE_SIZE);
    shared_info = (volatile struct xen_shared_info *)shared_info_window;
    console_init();
    paging_init();
    traps_init();
    events_init();
    guest_main();
}

const char *env_boot_protocol(void)
{
    return start_info->flags & XEN_START_INITIAL_DOMAIN ? "xen as dom0" : "xen as domU";
}

const char *env_command_line(void)
{
    return start_info->command_line;
}

uint64_t env_memory_bytes(void)
{
    return (uint64_t)start_info->page_count * PAGE_SIZE;
}

bool env_memory_is_sound(void)
{
    const unsigned long *frames = (const unsigned long *)start_info->frame_list;
    for (unsigned long page = 0; page < start_info->page_count; page++)
        if (XEN_MACHINE_TO_PHYSICAL[frames[page]] != page)
            return false;
    return (uintptr_t)image_end - XEN_VIRT_BASE <= env_memory_bytes();
}

void env_init_user_frame(struct frame *frame)
{
    frame->cs = XEN_CODE;
    frame->ss = XEN_STACK;
}

uintptr_t env_fault_address(void)
{
    return shared_info->vcpus[0].fault_address;
}

/* Xen's forced emulation prefix: UD2 and its name before the instruction, to see the CPUID meant for guests. */
void env_cpuid(uint32_t leaf, uint32_t registers[4])
{
    asm volatile("ud2; .ascii \"xen\"; cpuid"
                 : "=a"(registers[0]), "=b"(registers[1]), "=c"(registers[2]), "=d"(registers[3])
                 : "a"(leaf), "c"(0));
}

/* With this Xen emulates the port instructions of the kernel, which all fault in ring 3. */
long env_open_ports(void)
{
    uint32_t level = KERNEL_IOPL;
    return hypercall2(XEN_PHYSDEV_OP, XEN_PHYSDEV_SET_IOPL, (uintptr_t)&level);
}

void env_exit(bool success)
{
    uint32_t reason = success ? XEN_SHUTDOWN_POWEROFF : XEN_SHUTDOWN_CRASH;
    for (;;)
        hypercall2(XEN_SCHED_OP, XEN_SCHED_SHUTDOWN, (uintptr_t)&reason);
}
