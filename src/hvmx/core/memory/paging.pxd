# cython: language_level=3
"""Page-table walks (SDM vol. 3, chapter 4)."""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.state.state cimport *

ctypedef struct Translation:
    uint64_t physical      # guest-physical address of the 4 KiB page
    uint32_t size          # PAGE_4K, ...: what one TLB entry holds of it
    uint32_t rights        # MAP_*: what its tables allow
    uint32_t error         # page-fault error code, when it failed
    uint32_t levels        # entries read from memory, ...
    uint64_t places[4]     # ... and their guest-physical addresses, the last (deepest) one first
    uint32_t references    # memory references of the walk, including those of nested paging
    uint32_t cost          # of these, in units of 1/CYCLE_FRACTION guest cycle

cdef inline bint user_kind(uint32_t kind) noexcept nogil:
    return kind == TLB_USER or kind == TLB_USER_AC


# Do rights (MAP_*) allow this access? access: 0 read, 1 write, 2 fetch; kind: TLB_* (SDM vol. 3, 4.6).
cdef inline bint allows(Cpu *cpu, uint64_t rights, uint32_t kind, uint32_t access) noexcept nogil:
    if not cpu.cr0 & CR0_PG:
        return True
    if access == 2 and rights & MAP_NO_EXECUTE:
        return False
    if user_kind(kind):
        return rights & MAP_USER and (access != 1 or rights & MAP_WRITABLE)
    if access == 2:
        return not (rights & MAP_USER and cpu.cr4 & CR4_SMEP)
    if rights & MAP_USER and cpu.cr4 & CR4_SMAP and kind == TLB_SUPER:
        return False
    return access != 1 or rights & MAP_WRITABLE or not cpu.cr0 & CR0_WP


# TLB_WRITE and TLB_EXEC, as far as rights allow that.
cdef inline uint32_t allowed(Cpu *cpu, uint64_t rights, uint32_t kind) noexcept nogil:
    return (TLB_WRITE if allows(cpu, rights, kind, 1) else 0) | (TLB_EXEC if allows(cpu, rights, kind, 2) else 0)


# Is there anything to translate: by the guest's tables or by nested ones?
cdef inline bint translates(Cpu *cpu) noexcept nogil:
    return cpu.cr0 & CR0_PG or cpu.controls & CTL_EPT

# Walks the tables. Sets accessed and dirty bits on success. False on a page fault.
cdef bint translate(Cpu *cpu, uint64_t address, uint32_t kind, uint32_t access, Translation *out) noexcept nogil
# CR3 under PAE: load the four page-directory-pointer entries. False when a reserved bit is set (#GP).
cdef bint load_pdptes(Cpu *cpu, uint64_t cr3) noexcept nogil
# A translation that changes nothing (no accessed or dirty bits, no counts), for debuggers and the PV code. False if unmapped.
cdef bint peek(Cpu *cpu, uint64_t address, uint64_t *physical_address) noexcept nogil
# Where the entry of the lowest level for an address is, whether it is present or not. False: there is no such table.
cdef bint leaf_place(Cpu *cpu, uint64_t address, uint64_t *place) noexcept nogil
