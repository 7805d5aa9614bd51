# cython: language_level=3
"""Shadow paging: which entries of the guest's page tables the hypervisor's own tables mirror.

The processor walks the shadow tables, not the guest's. An entry that they lack causes a page fault that only the
hypervisor sees (exit reason 0), and so does a write to a guest page table, which is write-protected while any of its
entries is mirrored. As in KVM, a table of the lowest level is then no longer protected but out of sync: more writes to
it cause no exits. The guest has to flush before it may rely on what it wrote (SDM vol. 3, 4.10.4.2), and what it does
to that end exits: with it the table is brought in sync again, and protected.
"""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.memory.paging cimport Translation
from hvmx.core.state.state cimport *

# Are all entries that the walk used mirrored, for a write with the last one writable? If not, an exit mirrors them.
# False: the instruction is to be aborted.
cdef bint shadow_fill(Cpu *cpu, Op *op, uint64_t address, uint32_t access, Translation *found) noexcept nogil
# A guest write to a write-protected page table: exits, and lets the table go out of sync, or drops the mirrored entries that
# the write changes. False: the instruction is to be aborted.
cdef bint shadow_write(Cpu *cpu, Op *op, uint64_t address, uint64_t physical_address, uint32_t size) noexcept nogil
# The guest has flushed: bring in sync all tables, or that with the entry for a linear address.
cdef void shadow_flush(Cpu *cpu) noexcept nogil
cdef void shadow_flush_page(Cpu *cpu, uint64_t address) noexcept nogil
