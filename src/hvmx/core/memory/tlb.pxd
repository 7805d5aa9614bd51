# cython: language_level=3
"""The TLBs of the profile's processor: what of address translation costs guest cycles.

They decide what is a hit of the first level (free), a hit of the second (its latency) and a miss (a walk). The software
TLB (Cpu.tlbs) and the jump cache only save host time: they hold nothing but what is in the first level, so that what
they answer is a hit there by construction, and what they lack is asked for here, free of charge if the first level has
it. When an entry leaves the first level, what relies on it is dropped from them.

Their hits are not seen here. So no replacement may depend on hits: in each set the ways are replaced one after the
other, in the order in which they were filled. Invalid ways are filled first.

Entries are tagged with PCIDs (SDM vol. 3, 4.10). They keep the translation, so that a hit gives what the processor's
TLB would give: that of the tables as of the walk.
"""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.state.state cimport *

# Where a page is, as found in one of the parts (TLB_OF_DATA, TLB_OF_CODE, TLB_SECOND).
ctypedef struct Held:
    uint32_t size          # PAGE_4K, PAGE_2M, PAGE_1G: what the entry covers
    uint32_t slot          # number of the entry among those of the instruction TLBs
    uint64_t page          # guest-physical page of 4 KiB of the address, with MAP_* of the entry
    uint64_t evicted       # hold(): the key of the entry that had to go, or 0

cdef inline uint32_t pcid_of(Cpu *cpu) noexcept nogil:
    return <uint32_t>cpu.cr3 & 0xfff if cpu.cr4 & CR4_PCIDE else 0

cdef bint find(Cpu *cpu, uint32_t part, uint64_t address, Held *held) noexcept nogil
# Enter a translation of a page of this size; `page` as in Held. In the first level, where no TLB is for the size, a
# smaller piece of the page is held; in the second, then, nothing is. `absent`: find() has not found it there.
cdef void hold(Cpu *cpu, uint32_t part, uint64_t address, uint32_t size, uint64_t page, bint absent,
               Held *held) noexcept nogil
# The linear page that an evicted entry was for, and how many bits of an address are within that page.
cdef uint64_t page_of_key(uint64_t key, uint32_t *shift) noexcept nogil

# References to memory of a walk that read the entries at `places`, by level, from level `top` down to level `last`. It
# starts at what the paging-structure caches have, and fills them if it `found` the page, which is at `page`.
cdef uint32_t references_of_walk(Cpu *cpu, uint64_t address, uint64_t *places, uint32_t depth, uint32_t top,
                                 uint32_t last, uint64_t page, bint found) noexcept nogil
# The walk is to be repeated: as if it had not been.
cdef void undo_walk(Cpu *cpu) noexcept nogil

# Invalidation (SDM vol. 3, 4.10.4.1). The software TLB is not touched, nor, but for single pages, the jump cache: see
# mmu.pxd.
cdef void forget_all(Cpu *cpu) noexcept nogil               # linear addresses, with global pages, of all PCIDs
cdef void forget_private(Cpu *cpu) noexcept nogil           # all but global pages, of all PCIDs
cdef void forget_pcid(Cpu *cpu, uint32_t pcid) noexcept nogil
# One page, and all paging-structure caches of the PCID; global pages, too, if `with_global`.
cdef void forget_page(Cpu *cpu, uint64_t address, uint32_t pcid, bint with_global) noexcept nogil
cdef void forget_nested(Cpu *cpu) noexcept nogil            # guest-physical addresses

# A model of these sizes (see Vcpu.set_tlb), with nothing in it; ValueError for what no TLB has.
cdef TlbModel *new_model(dict sizes, uint64_t second_hit_cost) except NULL
cdef void free_model(TlbModel *model) noexcept
