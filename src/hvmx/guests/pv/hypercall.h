/* Hypercalls: SYSCALL from the kernel, number in RAX, arguments as for a C function but for R10 in RCX's place. */
#pragma once
#include "xen.h"

static inline long hypercall4(unsigned long number, unsigned long a, unsigned long b, unsigned long c,
                              unsigned long d)
{
    register unsigned long fourth asm("r10") = d;
    long result;
    asm volatile("syscall"
                 : "=a"(result), "+D"(a), "+S"(b), "+d"(c), "+r"(fourth)
                 : "0"(number)
                 : "rcx", "r11", "r8", "r9", "memory");
    return result;
}

static inline long hypercall3(unsigned long number, unsigned long a, unsigned long b, unsigned long c)
{
    return hypercall4(number, a, b, c, 0);
}

static inline long hypercall2(unsigned long number, unsigned long a, unsigned long b)
{
    return hypercall4(number, a, b, 0, 0);
}
