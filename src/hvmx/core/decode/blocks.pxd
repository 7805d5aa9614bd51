# cython: language_level=3
"""Decoded code: from instruction bytes to blocks of operations."""
from libc.stdint cimport uint64_t

from hvmx.core.state.state cimport *

# The first operation of the block at cpu.rip, decoded if need be. NULL: cpu.fault is set (the fetch faulted).
cdef Op *block_at_rip(Cpu *cpu) noexcept nogil
