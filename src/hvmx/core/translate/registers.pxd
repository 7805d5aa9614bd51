# cython: language_level=3
"""The register allocator: which guest registers are in registers of the host, within one trace."""
from libc.stdint cimport uint32_t

from hvmx.core.translate.trace cimport *

# The host register allocated to a guest register, with its value; and to one that is about to be changed.
cdef uint32_t use_register(Trace *t, uint32_t guest) noexcept nogil
cdef uint32_t modify_register(Trace *t, uint32_t guest) noexcept nogil
# ... and to one that is about to be overwritten as a whole, whose value is not loaded.
cdef uint32_t define_register(Trace *t, uint32_t guest) noexcept nogil
# Spill all dirty guest registers to Cpu. They stay allocated.
cdef void spill_all(Trace *t) noexcept nogil
# At the beginning of a trace: nothing is allocated.
cdef void clear_allocation(Trace *t) noexcept nogil
