# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.generated.families cimport FEATURE_PAGE1GB
from hvmx.core.memory.mmu cimport physical_load, physical_store
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
cdef enum:
    EPT_LEVELS = 4


cdef inline bint user_kind(uint32_t kind) noexcept nogil:
    return kind == TLB_USER or kind == TLB_USER_AC


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


cdef inline void count_references(Cpu *cpu, Translation *out, uint32_t references, bint found) noexcept nogil:
    """References as a processor makes them: nested paging translates each one, and the page that a walk finds, through its
    own tables."""
    if cpu.controls & CTL_EPT:
        references = references * (EPT_LEVELS + 1) + (EPT_LEVELS if found else 0)
    cpu.walk_references += references
    out.references = references
    out.cost = references * cpu.walk_cost


cdef bint translate(Cpu *cpu, uint64_t address, uint32_t kind, uint32_t access, Translation *out) noexcept nogil:
    cdef uint32_t depth = levels(cpu)
    cdef uint32_t references = 0
    cdef uint64_t entries[5]
    cdef uint64_t places[5]
    cdef uint64_t entry, table, combined, wanted
    cdef uint32_t level, bits, size
    cdef uint64_t page
    cdef bint user = user_kind(kind), ok, large = False, no_execute = False
    out.error = 0
    out.levels = 0
    if depth == 0:
        out.physical = address & ~<uint64_t>0xfff
        out.rights = TLB_WRITE | TLB_EXEC | TLB_DIRTY
        count_references(cpu, out, 0, True)
        return True
    if access == 1:
        out.error |= PF_WRITE
    if user:
        out.error |= PF_USER
    if access == 2 and (cpu.efer & EFER_NXE and depth > 2 or cpu.cr4 & CR4_SMEP):
        out.error |= PF_FETCH
    combined = PTE_W | PTE_U
    ok = True
    bits = 10 if depth == 2 else 9
    size = 4 if depth == 2 else 8
    level = depth
    if depth == 3:
        entry = cpu.pdpte[(address >> 30) & 3]
        if not entry & PTE_P:
            ok = False
        table = entry & <uint64_t>0xffffffffff000
        level = 2
    else:
        table = cpu.cr3 & (<uint64_t>0xfffff000 if depth == 2 else <uint64_t>0xffffffffff000)
    while ok:
        places[level] = (table + ((address >> (12 + bits * (level - 1))) & ((1 << bits) - 1)) * size) & cpu.a20_mask
        entry = physical_load(cpu, places[level], size)
        references += 1
        if not entry & PTE_P:
            ok = False
            break
        large = entry & PTE_PS and (level == 2 or level == 3 and depth == 4) and (depth != 2 or cpu.cr4 & CR4_PSE)
        if depth == 2:
            if large and entry & pse36_reserved(cpu):
                out.error |= PF_RESERVED
        elif entry & reserved_bits(cpu, level, large):
            out.error |= PF_RESERVED
        if out.error & PF_RESERVED:
            out.error |= PF_PRESENT
            ok = False
            break
        entries[level] = entry
        combined &= entry
        if entry & PTE_NX and depth != 2:
            no_execute = True
        if level == 1 or large:
            break
        table = entry & (<uint64_t>0xfffff000 if depth == 2 else <uint64_t>0xffffffffff000)
        level -= 1
    if not ok:
        count_references(cpu, out, references, False)
        return False
    # Rights (SDM vol. 3, 4.6)
    if user:
        ok = combined & PTE_U and not (access == 1 and not combined & PTE_W)
    elif access == 2:
        ok = not (combined & PTE_U and cpu.cr4 & CR4_SMEP)
    else:
        ok = not (combined & PTE_U and cpu.cr4 & CR4_SMAP and kind == TLB_SUPER)
        if access == 1 and not combined & PTE_W and cpu.cr0 & CR0_WP:
            ok = False
    if access == 2 and no_execute:
        ok = False
    count_references(cpu, out, references, ok)
    if not ok:
        out.error |= PF_PRESENT
        return False
    # Accessed and dirty bits (4.8)
    entry = entries[level]
    wanted = PTE_A | (PTE_D if access == 1 else 0)
    if entry & wanted != wanted:
        entry |= wanted
        physical_store(cpu, places[level], size, entry)
    table = level + 1
    while table <= (2 if depth == 3 else depth):
        if not entries[table] & PTE_A:
            physical_store(cpu, places[table], size, entries[table] | PTE_A)
        table += 1
    out.levels = references
    for table in range(references):
        out.places[table] = places[level + table]
    out.rights = 0
    if (combined & PTE_W or not user and not cpu.cr0 & CR0_WP):
        out.rights |= TLB_WRITE
    if not no_execute and not (not user and combined & PTE_U and cpu.cr4 & CR4_SMEP):
        out.rights |= TLB_EXEC
    if entry & PTE_D:
        out.rights |= TLB_DIRTY
    if entry & PTE_G and cpu.cr4 & CR4_PGE:
        out.rights |= TLB_GLOBAL
    if large:
        out.rights |= TLB_LARGE | (TLB_HUGE if level == 3 else 0)
        page = (<uint64_t>1 << (12 + bits * (level - 1))) - 1
        if depth == 2:
            out.physical = large_page_2(entry)
        else:
            out.physical = entry & <uint64_t>0xffffffffff000 & ~page
        out.physical |= address & page & ~<uint64_t>0xfff
    elif depth == 2:
        out.physical = entry & <uint64_t>0xfffff000
    else:
        out.physical = entry & <uint64_t>0xffffffffff000
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
    cdef uint32_t bits = 10 if depth == 2 else 9
    cdef uint32_t size = 4 if depth == 2 else 8
    cdef uint32_t level = depth
    cdef uint64_t entry, table, page
    if depth == 0:
        physical_address[0] = address & <uint64_t>0xffffffff & cpu.a20_mask
        return True
    if depth == 3:
        if not cpu.pdpte[(address >> 30) & 3] & PTE_P:
            return False
        table = cpu.pdpte[(address >> 30) & 3] & <uint64_t>0xffffffffff000
        level = 2
    else:
        table = cpu.cr3 & (<uint64_t>0xfffff000 if depth == 2 else <uint64_t>0xffffffffff000)
    while True:
        table += ((address >> (12 + bits * (level - 1))) & ((1 << bits) - 1)) * size
        entry = physical_load(cpu, table & cpu.a20_mask, size)
        if not entry & PTE_P:
            return False
        page = (<uint64_t>1 << (12 + bits * (level - 1))) - 1
        if level == 1 or entry & PTE_PS and (level == 2 or level == 3 and depth == 4) and (depth != 2 or cpu.cr4 & CR4_PSE):
            break
        table = entry & (<uint64_t>0xfffff000 if depth == 2 else <uint64_t>0xffffffffff000)
        level -= 1
    if depth == 2:
        table = entry & <uint64_t>0xfffff000 if level == 1 else large_page_2(entry)
    else:
        table = entry & <uint64_t>0xffffffffff000 & ~page
    physical_address[0] = (table | (address & page)) & cpu.a20_mask
    return True
