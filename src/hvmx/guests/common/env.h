/* The interface that an environment (hvm32, hvm64, pv64) implements for the common code.
 *
 * The common code knows nothing of ports, descriptor tables or hypercalls. An environment's start-up code sets
 * up the processor, the console and the traps, then calls guest_main() on a stack of its own with interrupts
 * off. Traps come back through trap_dispatch() (trap.h). Each environment also has a paging.h (entry_t and how
 * a page-table entry names a page) and implements space.h's tables.
 */
#pragma once
#include "frame.h"

struct space;

_Noreturn void guest_main(void);

extern const char env_name[];
const char *env_boot_protocol(void);
const char *env_command_line(void);

/* Console. */
void env_write(const char *text, size_t length);

/* Usable memory in bytes as the boot loader or hypervisor described it, and whether that description holds
 * together: the image that runs lies within it, and on PV the machine-to-physical table is the inverse of the
 * physical-to-machine list. */
uint64_t env_memory_bytes(void);
bool env_memory_is_sound(void);

/* What each environment must request in its own way. */
void env_cpuid(uint32_t leaf, uint32_t registers[4]);
long env_open_ports(void); /* 0, or the negative error of whoever refused */
uint64_t env_read_timer(void);

/* The periodic tick: about 10,000 a second, each of which calls timer_tick() with interrupts off. */
void env_start_ticks(void);
void env_stop_ticks(void);
void env_interrupts(bool enabled);
void env_interrupt(uintptr_t vector);

/* Traps and user mode. */
uintptr_t env_fault_address(void);
void env_init_user_frame(struct frame *frame);
/* From now on traps from user mode use the stack at `stack_top`, and the processor uses `space`. */
void env_enter_process(void *stack_top, const struct space *space);
void trap_return(void); /* the tail of every trap: a stack that holds a frame returns here into it */

/* Ends the guest. */
_Noreturn void env_exit(bool success);
