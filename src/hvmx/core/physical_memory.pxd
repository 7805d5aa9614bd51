# cython: language_level=3
"""Guest-physical memory of a processor."""
from libc.stdint cimport uint8_t, uint64_t

from hvmx.core.registers cimport Registers


cdef class PhysicalMemory(Registers):
    cdef object ram
    cdef uint8_t[::1] ram_bytes
    cdef object view
    cdef list roms
    cdef int add_ram(self, uint64_t size, bint hole, object level) except -1
    cdef uint64_t _range(self, uint64_t address, uint64_t length) except? 0xbad
    cdef uint64_t _physical(self, object address, uint64_t length) except? 0xbad
    cdef list _pages(self, uint64_t address, uint64_t length)
