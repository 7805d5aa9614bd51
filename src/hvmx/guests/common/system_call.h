/* System calls: INT 0x80 in 32-bit mode, SYSCALL in 64-bit mode. */
#pragma once
#include <stdint.h>

enum system_call {
    CALL_NULL,    /* argument + 1 */
    CALL_EXIT,    /* value */
    CALL_YIELD,
    CALL_FORK,    /* 0 in the child, 1 in the parent */
    CALL_WAIT,    /* until a child has ended: its value */
    CALL_STARTED, /* low half, high half of the time at which operations began that are timed */
    CALL_ENDED,   /* the same of their end */
    CALL_DISCARD, /* unmaps the arena */
    CALL_SKIP,    /* a fault of this vector shall skip so many bytes of code, as a signal handler might */
    CALL_TICKS,   /* timer ticks so far */
};

static inline uintptr_t system_call(enum system_call number, uintptr_t first, uintptr_t second)
{
    uintptr_t result = number;
#ifdef __x86_64__
    asm volatile("syscall" : "+a"(result) : "D"(first), "S"(second) : "rcx", "r11", "memory");
#else
    asm volatile("int $0x80" : "+a"(result) : "b"(first), "c"(second) : "memory");
#endif
    return result;
}
