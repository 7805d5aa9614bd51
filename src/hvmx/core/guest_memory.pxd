# cython: language_level=3
"""Guest RAM as a numpy array."""
from libc.stdint cimport uint8_t, uint64_t

from hvmx.core.registers cimport Registers


ctypedef struct Span:
    uint64_t first, low, high


cdef class Ram:
    cdef object plain      # the same memory as an array that can be written: never given away
    cdef uint8_t *octets
    cdef Py_ssize_t size
    cdef Py_ssize_t shape, stride
    cdef void *registers   # Registers of the processor; NULL after it
    cdef void *root        # the array that is given away again and again; borrowed, as it keeps this
    cdef bint claim(self) except -1
    cdef int release(self) except -1
    cdef int written(self, uint64_t low, uint64_t high) except -1


cdef object guest_memory(object mapping, Registers registers)
cdef void detach(object memory) noexcept
cdef void bytes_written(Registers registers, uint64_t start, uint64_t length) noexcept
