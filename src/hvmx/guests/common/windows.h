/* When operations were timed. The lengths of a workload's windows, by their signs, add up to the cycles that it took.
 *
 * Whoever looks at the guest's memory from outside finds them in `windows`. */
#pragma once
#include <stdint.h>

#define MOST_WINDOWS 256

struct window {
    uint64_t start, end; /* by the time-stamp counter */
    uint32_t workload;   /* its place in the list of all */
    int32_t sign;        /* -1: what would have passed anyway, and is taken off */
};

struct windows {
    uint64_t count;
    struct window window[MOST_WINDOWS + 1]; /* the last is never counted */
};

extern struct windows windows;

/* What is added from now on is this workload's. */
void windows_of(uint32_t workload);

void window_add(uint64_t start, uint64_t end, int sign);

/* Adds the window if it counts, by the same instructions if it does not. */
void window_add_if(uintptr_t counts, uint64_t start, uint64_t end);

/* The cycles of this workload so far; never less than none. */
uint64_t windows_cycles(void);
