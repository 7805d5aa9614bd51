# cython: language_level=3
"""Shadow paging: which entries of the guest's page tables the hypervisor's own tables mirror.

The processor walks the shadow tables; an entry that they lack is a page fault that only the hypervisor sees (exit
reason 0), as is a write to a guest page table, which is write-protected while any of it is mirrored.
"""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.memory.paging cimport Translation
from hvmx.core.state.state cimport *

# Are all entries that the walk used mirrored, and the last one for writing if need be? If not, an exit mirrors them.
# False: the exit's handler wants the instruction aborted.
cdef bint shadow_fill(Cpu *cpu, Op *op, uint64_t address, uint32_t access, Translation *found) noexcept nogil
# A guest write to a write-protected page table: exits, then forgets the entries written. False: to be aborted.
cdef bint shadow_write(Cpu *cpu, Op *op, uint64_t address, uint64_t physical_address, uint32_t size) noexcept nogil
