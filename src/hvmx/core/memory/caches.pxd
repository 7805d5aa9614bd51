# cython: language_level=3
"""The data caches of the profile's processor, where they are modelled: what a load or store takes beyond a hit of L1.

Every access of the guest's data comes here with its guest-physical address: the software TLB never opens a fast path
while Cpu.caches is set (mmu.pyx), so that handlers and translated code alike go through load_slow(), store_slow() and
rmw_slow(). Fetches of instructions do not come here, nor do devices; a page walk's references to the guest's own tables
begin at the second level. Bytes that are in two lines are two accesses, and so are the halves of a vector of 16 bytes.

What a miss takes is added to the guest cycles of the pipeline: misses do not overlap. Those of stores are divided by how
many overlap behind the store buffer.

  - A line that is fetched goes into every level. In L1 the least recently used line of a set makes room, in L2 and L3 one
    drawn from a fixed sequence.
  - L2 and L3 are indexed by frames that are scattered by a fixed function of the guest's frame: a hypervisor backs a guest
    with whatever frames of the host are free.
  - Where two misses, or first uses of lines that were fetched ahead, are on neighbouring lines, the next one in the same
    direction is fetched ahead. Its first use takes nothing, or `prefetched` if it came from memory.

All of it follows from the guest's accesses and their order alone, so a run costs the same however it is cut.
"""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.state.state cimport *

cdef enum:
    CACHE_LEVELS = 3
    STREAMS = 16

ctypedef struct CacheLevel:
    uint64_t *lines        # sets of `ways` each: line number + 1, above FLAG_BITS; 0: empty. In L1 the last used one first
    uint32_t sets, ways

ctypedef struct CacheModel:
    CacheLevel levels[CACHE_LEVELS]
    uint32_t line_shift
    # What is found at each level, the last being memory, takes so much longer than in L1; in the unit of Cpu.acct.
    int64_t load_cost[CACHE_LEVELS + 1]
    int64_t store_cost[CACHE_LEVELS + 1]
    int64_t prefetched_cost
    uint64_t hits[CACHE_LEVELS + 1]
    uint64_t prefetched_hits       # of those of L1: the first uses of lines that were fetched ahead
    uint64_t walk_hits[CACHE_LEVELS + 1]
    uint64_t recent[STREAMS]       # line number + 1 of the last miss, or first use, of each stream
    uint32_t next_stream           # the one that makes room
    uint64_t draw                  # of the sequence of ways that make room

cdef inline CacheModel *caches_of(Cpu *cpu) noexcept nogil:
    """NULL: they are not modelled, and everything hits L1."""
    return <CacheModel *>cpu.caches

# A load or store of `size` bytes, at most a line, at a guest-physical address. The extra time is spent: afterwards the
# chain may have to return after the instruction of `op`.
cdef void access_line(Cpu *cpu, Op *op, uint64_t address, uint32_t size, bint write) noexcept nogil
# The reading of an entry by a page walk.
cdef void walk_reads(Cpu *cpu, uint64_t address) noexcept nogil
# CLFLUSH; WBINVD, INVD and RESET. What is dirty is written back in no time.
cdef void forget_line(Cpu *cpu, uint64_t address) noexcept nogil
cdef void forget_lines(Cpu *cpu) noexcept nogil

# Levels as (bytes, ways, guest time beyond L1's latency); see Vcpu.set_caches. ValueError for what no cache has.
cdef CacheModel *new_caches(levels, uint64_t line, uint64_t memory, uint64_t prefetched, uint64_t overlapping) except NULL
cdef void free_caches(CacheModel *caches) noexcept
