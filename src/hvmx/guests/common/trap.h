/* Traps: system calls, interrupts, and faults of user mode and of the kernel. */
#pragma once
#include "frame.h"

/* Called by the environment's entry code with interrupts off. */
void trap_dispatch(struct frame *frame);

/* Called by the environment's timer interrupt. */
void timer_tick(void);
extern volatile unsigned timer_ticks;

/* One kernel instruction that may fault: each of these says whether it did, and trap_fault() how. */
bool read_faults(const volatile uint32_t *address, uint32_t *value);
bool write_faults(volatile uint32_t *address, uint32_t value);
bool divide_faults(uint32_t dividend, uint32_t divisor);
const struct fault *trap_fault(void);
