# cython: language_level=3
"""The registers of a processor as attributes in Python."""
from libc.stdint cimport uint64_t

from hvmx.core.state cimport Cpu


cdef class Registers:
    cdef Cpu *cpu
    cdef uint64_t defined_bits(self, str name) noexcept
