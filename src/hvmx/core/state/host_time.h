/* Host time, which a guest never sees. */
#ifndef HVMX_HOST_TIME_H
#define HVMX_HOST_TIME_H

#include <stdint.h>
#include <time.h>

/* As time.monotonic_ns() of Python. */
static inline uint64_t host_nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

#endif
