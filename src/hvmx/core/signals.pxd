# cython: language_level=3
"""Signals while a guest runs (see signals.h)."""
from libc.stdint cimport uint64_t

# Whether this is the thread in which Python handles signals.
cdef bint in_main_thread() noexcept
# A run in the main thread begins. Returns a word that is not 0 while there are signals for it to handle. In a run that
# is nested in another's handler it is always 0: its signals wait for the outer run.
cdef const uint64_t *begin_run() noexcept
# The word of a run in another thread: always 0.
cdef const uint64_t *no_signals() noexcept
cdef void end_run() noexcept
# Before such a run calls any Python: handle the signals that have come, and from now on hold them back.
cdef int hold_signals() except -1
# Between two instructions of such a run: handle the signals that are held.
cdef int handle_held_signals() except -1
# After a run: the same, if no outer run holds them back.
cdef int signals_after() except -1
