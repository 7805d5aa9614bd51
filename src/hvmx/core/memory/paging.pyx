# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.generated.families cimport FEATURE_PAGE1GB
from hvmx.core.memory.mmu cimport physical_load, physical_store
from hvmx.core.memory.tlb cimport references_of_walk
from hvmx.core.state.state cimport *

# Page-fault error code (SDM vol. 3, 4.7) and paging-structure entry bits (4.5.5).
cdef enum:
    PF_PRESENT = 1
    PF_WRITE = 2
    PF_USER = 4
    PF_RESERVED = 8
    PF_FETCH = 16

cdef enum:
    PTE_P = 1
    PTE_W = 2
    PTE_U = 4
    PTE_A = 0x20
    PTE_D = 0x40
    PTE_PS = 0x80
    PTE_G = 0x100

cdef uint64_t PTE_NX = <uint64_t>1 << 63


cdef inline uint32_t levels(Cpu *cpu) noexcept nogil:
    if not cpu.cr0 & CR0_PG:
        return 0
    if not cpu.cr4 & CR4_PAE:
        return 2
    return 4 if cpu.efer & EFER_LMA else 3


cdef inline uint64_t reserved_bits(Cpu *cpu, uint32_t level, bint large) noexcept nogil:
    """Reserved bits of a 64-bit entry; level 1 is the page table."""
    cdef uint64_t bits = ((<uint64_t>1 << 52) - 1) & ~((<uint64_t>1 << cpu.phys_bits) - 1)
    if not cpu.efer & EFER_NXE:
        bits |= PTE_NX
    if not cpu.efer & EFER_LMA:
        bits |= <uint64_t>0x7ff0000000000000  # PAE: bits 62:52 are reserved too (SDM vol. 3, table 4-9)
    if large:
        bits |= 0x1fe000 if level == 2 else 0x3fffe000
    if level == 4 or level == 3 and not cpu.features >> FEATURE_PAGE1GB & 1:
        bits |= PTE_PS
    return bits


cdef inline uint64_t large_page_2(uint64_t entry) noexcept nogil:
    """The address in a 4 MiB entry, by PSE-36."""
    return (entry & <uint64_t>0xffc00000) | ((entry & 0x1fe000) << 19)


cdef inline uint64_t pse36_reserved(Cpu *cpu) noexcept nogil:
    """Bits 20:13 of a 4 MiB entry are bits 39:32 of the address, of which a processor may have fewer (4.3)."""
    return 0x3fe000 & ~(((<uint64_t>1 << cpu.phys_bits) - 1) >> 19)


cdef struct Walk:
    # What a walk found, from the tables at the root (`depth`) down to the entry that names the page (`level`).
    uint32_t depth             # 2: 32-bit paging; 3: PAE; 4: 4-level
    uint32_t level
    uint32_t references        # entries read from memory
    uint32_t error             # PF_RESERVED and PF_PRESENT, where it failed with them
    uint64_t entries[5]
    uint64_t places[5]         # guest-physical
    uint64_t combined          # PTE_W and PTE_U as far as all entries have them
    bint no_execute


cdef inline uint64_t root_of(Cpu *cpu, uint64_t address, uint32_t depth) noexcept nogil:
    """The table that a walk starts from; for PAE with PTE_P, which is clear if its pointer is not present."""
    if depth == 3:
        return cpu.pdpte[(address >> 30) & 3] & <uint64_t>0xffffffffff001
    return (cpu.cr3 & (<uint64_t>0xfffff000 if depth == 2 else <uint64_t>0xffffffffff000)) | PTE_P


cdef inline uint64_t table_of(uint64_t entry, uint32_t depth) noexcept nogil:
    """The address in an entry, of a table or of a page of 4 KiB."""
    return entry & (<uint64_t>0xfffff000 if depth == 2 else <uint64_t>0xffffffffff000)


cdef inline uint64_t place_in(Cpu *cpu, uint64_t table, uint64_t address, uint32_t level, uint32_t depth) noexcept nogil:
    """Where the entry for a linear address is in a table."""
    if depth == 2:
        return (table + ((address >> (12 + 10 * (level - 1))) & 0x3ff) * 4) & cpu.a20_mask
    return (table + ((address >> (12 + 9 * (level - 1))) & 0x1ff) * 8) & cpu.a20_mask


cdef inline bint is_large(Cpu *cpu, uint64_t entry, uint32_t level, uint32_t depth) noexcept nogil:
    return entry & PTE_PS and (level == 2 or level == 3 and depth == 4) and (depth != 2 or cpu.cr4 & CR4_PSE)


cdef inline uint64_t page_at(uint64_t entry, uint64_t address, uint32_t level, uint32_t depth) noexcept nogil:
    """The physical address for a linear one of which `entry` names the page."""
    cdef uint64_t within
    if level == 1:
        return table_of(entry, depth) | (address & 0xfff)
    within = (<uint64_t>1 << (12 + (10 if depth == 2 else 9) * (level - 1))) - 1
    if depth == 2:
        return large_page_2(entry) | (address & within)
    return (table_of(entry, depth) & ~within) | (address & within)


cdef inline bint walk_tables(Cpu *cpu, uint64_t address, Walk *walk) noexcept nogil:
    """Reads the tables for an address; false, with `walk.error`, at an entry that is not present or malformed."""
    cdef uint32_t depth = walk.depth, top = 2 if depth == 3 else depth
    cdef uint32_t level = top
    cdef uint64_t table = root_of(cpu, address, depth)
    cdef uint64_t combined = PTE_W | PTE_U, any_bit = 0
    cdef uint64_t entry
    cdef bint reserved, large
    walk.references = 0
    walk.error = 0
    if not table & PTE_P:
        return False
    while True:
        walk.places[level] = place_in(cpu, table & ~<uint64_t>0xfff, address, level, depth)
        entry = physical_load(cpu, walk.places[level], 4 if depth == 2 else 8)
        if not entry & PTE_P:
            break
        large = is_large(cpu, entry, level, depth)
        if depth == 2:
            reserved = large and entry & pse36_reserved(cpu) != 0
        else:
            reserved = entry & reserved_bits(cpu, level, large) != 0
        if reserved:
            walk.error = PF_RESERVED | PF_PRESENT
            break
        walk.entries[level] = entry
        combined &= entry
        any_bit |= entry
        if level == 1 or large:
            walk.level = level
            walk.references = top - level + 1
            walk.combined = combined
            walk.no_execute = depth != 2 and any_bit & PTE_NX != 0
            return True
        table = table_of(entry, depth)
        level -= 1
    walk.references = top - level + 1
    return False


cdef inline uint32_t rights_of(Cpu *cpu, Walk *walk) noexcept nogil:
    """What the tables allow, as MAP_*."""
    cdef uint64_t entry = walk.entries[walk.level]
    return ((MAP_WRITABLE if walk.combined & PTE_W else 0) | (MAP_USER if walk.combined & PTE_U else 0)
            | (MAP_NO_EXECUTE if walk.no_execute else 0) | (MAP_DIRTY if entry & PTE_D else 0)
            | (MAP_GLOBAL if entry & PTE_G and cpu.cr4 & CR4_PGE else 0))


cdef inline void mark_accessed(Cpu *cpu, Walk *walk, bint dirty) noexcept nogil:
    """Sets accessed bits, and the dirty bit, where they are clear (SDM vol. 3, 4.8)."""
    cdef uint32_t size = 4 if walk.depth == 2 else 8
    cdef uint32_t level = walk.level
    cdef uint64_t wanted = PTE_A | (PTE_D if dirty else 0)
    if walk.entries[level] & wanted != wanted:
        walk.entries[level] |= wanted
        physical_store(cpu, walk.places[level], size, walk.entries[level])
    for level in range(walk.level + 1, walk.level + walk.references):
        if not walk.entries[level] & PTE_A:
            physical_store(cpu, walk.places[level], size, walk.entries[level] | PTE_A)


cdef void price(Cpu *cpu, uint64_t address, Walk *walk, bint found, Translation *out) noexcept nogil:
    """Count and price the references of the walk: what the processor's caches have of the tables costs nothing."""
    cdef uint32_t top = 2 if walk.depth == 3 else walk.depth
    out.references = references_of_walk(cpu, address, walk.places, walk.depth, top, top - walk.references + 1,
                                        out.physical, found)
    out.cost = out.references * cpu.walk_cost
    cpu.walk_references += out.references


cdef bint translate(Cpu *cpu, uint64_t address, uint32_t kind, uint32_t access, Translation *out) noexcept nogil:
    cdef Walk walk
    cdef uint32_t index
    cdef bint ok
    out.error = 0
    out.levels = 0
    out.size = PAGE_4K
    walk.depth = levels(cpu)
    if walk.depth == 0:
        out.physical = address & ~<uint64_t>0xfff
        out.rights = MAP_WRITABLE | MAP_USER | MAP_DIRTY
        walk.references = 0
        price(cpu, address, &walk, True, out)
        return True
    ok = walk_tables(cpu, address, &walk)
    if ok and not allows(cpu, rights_of(cpu, &walk), kind, access):
        walk.error = PF_PRESENT
        ok = False
    if not ok:
        price(cpu, address, &walk, False, out)
        out.error = walk.error | (PF_WRITE if access == 1 else 0) | (PF_USER if user_kind(kind) else 0)
        if access == 2 and (cpu.efer & EFER_NXE and walk.depth > 2 or cpu.cr4 & CR4_SMEP):
            out.error |= PF_FETCH
        return False
    mark_accessed(cpu, &walk, access == 1)
    out.levels = walk.references
    for index in range(walk.references):
        out.places[index] = walk.places[walk.level + index]
    out.rights = rights_of(cpu, &walk)
    out.physical = page_at(walk.entries[walk.level], address, walk.level, walk.depth) & ~<uint64_t>0xfff
    # hvmx's nested tables have pages of 4 KiB, as its EPT violations are: an entry is for the smaller of the two.
    if not cpu.controls & CTL_EPT:
        out.size = walk.level - 1
    price(cpu, address, &walk, True, out)
    return True


cdef bint load_pdptes(Cpu *cpu, uint64_t cr3) noexcept nogil:
    cdef uint64_t entry[4]
    cdef uint32_t index
    cdef uint64_t reserved = 0x1e6 | ~((<uint64_t>1 << cpu.phys_bits) - 1)
    for index in range(4):
        entry[index] = physical_load(cpu, ((cr3 & <uint64_t>0xffffffe0) + 8 * index) & cpu.a20_mask, 8)
        if entry[index] & PTE_P and entry[index] & reserved:
            return False
    for index in range(4):
        cpu.pdpte[index] = entry[index]
    return True


cdef bint peek(Cpu *cpu, uint64_t address, uint64_t *physical_address) noexcept nogil:
    cdef uint32_t depth = levels(cpu)
    cdef uint32_t level = 2 if depth == 3 else depth
    cdef uint64_t entry, table
    if depth == 0:
        physical_address[0] = address & <uint64_t>0xffffffff & cpu.a20_mask
        return True
    table = root_of(cpu, address, depth)
    if not table & PTE_P:
        return False
    while True:
        entry = physical_load(cpu, place_in(cpu, table & ~<uint64_t>0xfff, address, level, depth), 4 if depth == 2 else 8)
        if not entry & PTE_P:
            return False
        if level == 1 or is_large(cpu, entry, level, depth):
            break
        table = table_of(entry, depth)
        level -= 1
    physical_address[0] = page_at(entry, address, level, depth) & cpu.a20_mask
    return True


cdef bint leaf_place(Cpu *cpu, uint64_t address, uint64_t *place) noexcept nogil:
    cdef Walk walk
    walk.depth = levels(cpu)
    if walk.depth == 0:
        return False
    walk_tables(cpu, address, &walk)
    if walk.references != (2 if walk.depth == 3 else walk.depth):
        return False
    place[0] = walk.places[1]
    return True
