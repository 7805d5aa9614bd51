/* What a trap leaves on the kernel stack: the registers saved by the entry code, then what the processor
 * (or Xen, which builds the same frame for a paravirtual kernel) pushed. The entry code must agree. */
#pragma once
#include "x86.h"

struct frame {
#ifdef __x86_64__
    uintptr_t r15, r14, r13, r12, r11, r10, r9, r8;
    uintptr_t bp, di, si, dx, cx, bx, ax;
#else
    uintptr_t di, si, bp, pusha_sp, bx, dx, cx, ax; /* in PUSHA's order */
#endif
    uintptr_t vector, error;
    uintptr_t ip, cs, flags;
    uintptr_t sp, ss; /* in 32-bit mode pushed only when the trap came from user mode */
};

/* The trap came from user mode. Xen clears the RPL of a paravirtual kernel's CS, so this holds there too. */
static inline bool frame_is_user(const struct frame *frame)
{
    return (frame->cs & 3) == 3;
}

/* First argument of the function that a new frame enters: the calling convention's register. */
static inline void frame_set_argument(struct frame *frame, uintptr_t argument)
{
#ifdef __x86_64__
    frame->di = argument;
#else
    frame->ax = argument;
#endif
}

/* A fault as the kernel saw it. */
struct fault {
    uintptr_t vector, error;
    uintptr_t address; /* page faults only */
    uintptr_t ip;
    uintptr_t di, cx; /* a string instruction's progress */
};
