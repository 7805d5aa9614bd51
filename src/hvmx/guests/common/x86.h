/* The few facts of the architecture that every environment shares (SDM vol. 3A). */
#pragma once

#define PAGE_SIZE 4096

/* Exception vectors, SDM table 6-1. */
#define VECTOR_DIVIDE     0
#define VECTOR_BREAKPOINT 3
#define VECTOR_UNDEFINED  6
#define VECTOR_PROTECTION 13
#define VECTOR_PAGE_FAULT 14

/* Ours: the first vector of outside interrupts (PIC lines, or Xen's event upcall), and system calls. */
#define VECTOR_INTERRUPT  0x20
#define VECTOR_SYSCALL    0x80

/* Page-fault error code, SDM 4.7. */
#define FAULT_PRESENT 0x1
#define FAULT_WRITE   0x2
#define FAULT_USER    0x4

/* Page-table entries, SDM 4.3 and 4.5; bits 9 to 11 are the system's own. */
#define ENTRY_PRESENT  0x001
#define ENTRY_WRITABLE 0x002
#define ENTRY_USER     0x004
#define ENTRY_LARGE    0x080
#define ENTRY_COPY     0x200 /* to be copied at the first write after a fork */

#define FLAGS_RESERVED  0x002 /* bit 1 always reads as 1 */
#define FLAGS_INTERRUPT 0x200

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline uint64_t rdtsc(void)
{
    uint32_t low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

#define barrier() asm volatile("" ::: "memory")
#endif
