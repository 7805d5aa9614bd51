# cython: language_level=3
"""Shadow paging: which entries of the guest's page tables the hypervisor's own tables mirror.

The processor walks the shadow tables, not the guest's. An entry that they lack causes a page fault that only the
hypervisor sees (exit reason 0), and so does a write to a guest page table, which is write-protected while any of its
entries is mirrored.
"""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.memory.paging cimport Translation
from hvmx.core.state.state cimport *

# Are all entries that the walk used mirrored, for a write with the last one writable? If not, an exit mirrors them.
# False: the instruction is to be aborted.
cdef bint shadow_fill(Cpu *cpu, Op *op, uint64_t address, uint32_t access, Translation *found) noexcept nogil
# A guest write to a write-protected page table: exits, then drops the mirrored entries that it changes. False: the
# instruction is to be aborted.
cdef bint shadow_write(Cpu *cpu, Op *op, uint64_t address, uint64_t physical_address, uint32_t size) noexcept nogil
