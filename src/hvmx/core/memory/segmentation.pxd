# cython: language_level=3
"""Segmentation, and what follows from the segments: how code is decoded, and where memory is looked up."""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.state.state cimport Cpu, Op


# The linear address of segment:offset, after the checks of limit, rights and canonicality; on failure #GP(0) or #SS(0)
# is raised in cpu.fault.
cdef uint64_t linear(Cpu *cpu, Op *op, uint32_t segment, uint64_t offset, uint32_t size, bint write) noexcept nogil

# After a change of CPL, CR0, CR4, EFLAGS.AC, CS, SS, DS or ES: select the TLB and the decoding mode.
cdef void update_mode(Cpu *cpu) noexcept nogil
