# cython: language_level=3
"""Signals while a guest runs (see signals.h)."""
from libc.stdint cimport uint64_t

# Whether this is the thread in which Python handles signals.
cdef bint in_main_thread() noexcept
# Not 0: there are signals to handle.
cdef const uint64_t *signals_held() noexcept
# A run in the main thread begins; ends.
cdef void begin_run() noexcept
cdef void end_run() noexcept
# Before the first Python of such a run: what signals have come are handled now, and from now on none within that Python.
cdef int hold_signals() except -1
# Between two instructions of such a run: handle what came meanwhile.
cdef int handle_held_signals() except -1
