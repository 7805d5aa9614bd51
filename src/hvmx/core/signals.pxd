# cython: language_level=3
"""Signals while a guest runs (see signals.h)."""
from libc.stdint cimport uint64_t

# Whether this is the thread in which Python handles signals.
cdef bint in_main_thread() noexcept
# A run in the main thread begins; returns a word that is not 0 when there are signals for it to handle: those that come
# during a run within another's handler wait for the outer one.
cdef const uint64_t *begin_run() noexcept
# The word of a run in another thread: always 0.
cdef const uint64_t *no_signals() noexcept
cdef void end_run() noexcept
# Before the first Python of such a run: what signals have come are handled now, and from now on none within that Python.
cdef int hold_signals() except -1
# Between two instructions of such a run: handle what came meanwhile.
cdef int handle_held_signals() except -1
# After a run, where nobody else holds signals back: the same.
cdef int signals_after() except -1
