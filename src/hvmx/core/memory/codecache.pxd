# cython: language_level=3
"""The cache of decoded blocks: by guest-physical address, and dropped when their bytes change.

A dropped block stays in memory, with the handler of all its Ops set to `Cpu.stale`, which returns to the run loop. So
whatever still points at it (a linked branch, or the instruction that is just writing to its own block) gets to the run
loop with the right instruction pointer, and no handler needs a check. Memory is freed with the whole arena, between
blocks.
"""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.state.state cimport *

cdef Block *find_block(Cpu *cpu, uint64_t physical, uint64_t ip, uint32_t mode) noexcept nogil
cdef Block *allocate_block(Cpu *cpu, uint32_t ops, uint32_t timings) noexcept nogil
cdef void insert_block(Cpu *cpu, Block *block, uint32_t timings, uint64_t chunks, uint64_t bytes2) noexcept nogil
# Drop one block, which stays in the lists of its pages until these change.
cdef void drop_block(Cpu *cpu, Block *block) noexcept nogil
# A bit for each 64-byte piece of a page that [offset, offset + size) overlaps; size is at least 1.
cdef uint64_t chunk_mask(uint64_t offset, uint64_t size) noexcept nogil
cdef bint code_written(Cpu *cpu, uint64_t physical, uint64_t size) noexcept nogil
cdef void flush_code(Cpu *cpu) noexcept nogil
cdef void flush_jumps(Cpu *cpu) noexcept nogil
# The index of a RAM page in page_flags and the other arrays by page; all ones outside of RAM.
cdef uint64_t frame_index(Cpu *cpu, uint64_t physical) noexcept nogil
# Send writes to a guest-physical page through the slow path from now on.
cdef void forbid_fast_writes(Cpu *cpu, uint64_t page) noexcept nogil
# An entry of the jump cache has been filled: it is good for as long as the instruction TLB's entry that fetch_page() found
# (Cpu.code_slot) holds its page. drop_jumps(): that entry is replaced.
cdef void remember_jump(Cpu *cpu, uint32_t number) noexcept nogil
cdef void drop_jumps(Cpu *cpu, uint32_t slot) noexcept nogil
