# cython: language_level=3
"""Host time, which a guest never sees."""
from libc.stdint cimport uint64_t

cdef extern from "host_time.h" nogil:
    uint64_t host_nanoseconds()
