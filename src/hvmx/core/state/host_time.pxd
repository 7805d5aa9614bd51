# cython: language_level=3
"""Host time, which a guest never sees."""
from libc.stdint cimport uint64_t

# Not from posix.time, which includes <signal.h>: there REG_RAX and the like are different numbers.
cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int, timespec *)


cdef inline uint64_t host_nanoseconds() noexcept nogil:
    """As time.monotonic_ns()."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t>now.tv_sec * 1000000000 + <uint64_t>now.tv_nsec
