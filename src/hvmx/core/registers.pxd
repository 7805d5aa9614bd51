# cython: language_level=3
"""The registers of a processor as attributes in Python."""
from libc.stdint cimport uint64_t

from hvmx.core.state.state cimport Cpu

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident()


cdef object processor  # the class of what has registers: Vcpu


cdef class Registers:
    cdef Cpu *cpu
    cdef unsigned long runner  # the thread that runs the processor, or writes its memory; 0 while none does
    cdef bint writing          # it writes memory, and does not run
    cdef uint64_t defined_bits(self, str name) noexcept


cdef uint64_t fitting(str name, object value, uint64_t allowed) except? 0xbad
cdef uint64_t up_to(str name, object value, uint64_t most) except? 0xbad
cdef int refuse_thread() except -1


# The processor, to change its state: only the thread that runs it may, as a run loop reads it without a lock.
cdef inline Cpu *held(Registers self) except NULL:
    if self.runner and self.runner != PyThread_get_thread_ident():
        refuse_thread()
    return self.cpu
