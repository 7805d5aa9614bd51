# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memcpy, memset

from hvmx.core.memory.codecache cimport forbid_fast_writes, frame_index
from hvmx.core.exit.door cimport describe_exit
from hvmx.core.memory.mmu cimport memory_exit, physical_load
from hvmx.core.memory.paging cimport Translation, leaf_place
from hvmx.core.state.state cimport *

cdef enum:
    PF_PRESENT = 1
    PF_WRITE = 2
    PF_USER = 4
    # After this many writes without a walk in between, a page that no entry refers to is no longer a page table.
    FLOODING = 3
    NO_PARENT = 1  # not an address that an entry can have


cdef uint64_t PRESENT = 1
cdef uint64_t WRITABLE = 2
cdef uint64_t ACCESSED = 0x20
cdef uint64_t DIRTY = 0x40
cdef uint64_t TABLE_MASK = <uint64_t>0xffffffffff000


cdef ShadowPage *shadow_page(Cpu *cpu, uint64_t entry_address) noexcept nogil:
    """The mirror of the page table with this entry, created on demand; NULL outside of RAM, or for lack of memory."""
    cdef uint64_t frame = frame_index(cpu, entry_address)
    cdef ShadowPage *page
    if frame == ~<uint64_t>0:
        return NULL
    page = cpu.shadow_pages[frame]
    if page == NULL:
        page = <ShadowPage *>calloc(1, sizeof(ShadowPage))
        if page == NULL:
            return NULL
        cpu.shadow_pages[frame] = page
        page.frame = entry_address & ~<uint64_t>0xfff
    if not page.out_of_sync:
        protect(cpu, page)
    return page


cdef void protect(Cpu *cpu, ShadowPage *page) noexcept nogil:
    cdef uint64_t frame = frame_index(cpu, page.frame)
    if not cpu.page_flags[frame] & PAGE_TABLE:
        cpu.page_flags[frame] |= PAGE_TABLE
        forbid_fast_writes(cpu, page.frame)


cdef inline bint get_bit(uint64_t *bits, uint64_t index) noexcept nogil:
    return (bits[index >> 6] >> (index & 63)) & 1


cdef inline void set_bit(uint64_t *bits, uint64_t index) noexcept nogil:
    bits[index >> 6] |= <uint64_t>1 << (index & 63)


cdef inline void clear_bit(uint64_t *bits, uint64_t index) noexcept nogil:
    bits[index >> 6] &= ~(<uint64_t>1 << (index & 63))


cdef void empty(ShadowPage *page) noexcept nogil:
    """Nothing of the page is mirrored."""
    memset(page.present, 0, sizeof(page.present))
    memset(page.writable, 0, sizeof(page.writable))
    page.writes = page.upper = 0


cdef bint fault_exit(Cpu *cpu, Op *op, uint64_t address, uint32_t error) noexcept nogil:
    """The exit for a page fault of the hypervisor's; its qualification is the address (SDM vol. 3, 27.2.1)."""
    describe_exit(cpu, VEC_PF, 0, 0, False, address)
    cpu.exit.linear = address
    cpu.exit.error_code = error
    cpu.exit.host_only = 1
    if not memory_exit(cpu, op, EXIT_REASON_EXCEPTION_NMI):
        return False
    cpu.shadow_faults += 1
    return True


cdef bint shadow_fill(Cpu *cpu, Op *op, uint64_t address, uint32_t access, Translation *found) noexcept nogil:
    cdef uint32_t level
    cdef uint64_t index
    cdef ShadowPage *page
    cdef uint32_t entry_size = 8 if cpu.cr4 & CR4_PAE else 4
    cdef bint complete = True
    # As far as the guest's entry is marked dirty it is mirrored for writes, whatever access it is that comes first.
    cdef bint writable = access == 1 or found.rights & (MAP_WRITABLE | MAP_DIRTY) == MAP_WRITABLE | MAP_DIRTY
    for level in range(found.levels):
        # Entries are indexed in words of 4 bytes, whatever their size.
        page = shadow_page(cpu, found.places[level])
        if page == NULL:
            continue
        if page.entry_size != entry_size:
            # The page was used in another paging mode, where its entries meant something else.
            empty(page)
            page.entry_size = entry_size
        page.writes = 0
        page.parent = found.places[level + 1] if level + 1 < found.levels else NO_PARENT
        if level or found.guest_size != PAGE_4K:
            page.upper = True
            if page.out_of_sync:
                shadow_flush(cpu)
        index = (found.places[level] & 0xfff) >> 2
        if not get_bit(page.present, index) or level == 0 and access == 1 and not get_bit(page.writable, index):
            complete = False
    if complete:
        return True
    if not fault_exit(cpu, op, address, (PF_WRITE if access == 1 else 0) | (PF_USER if cpu.cpl == 3 else 0)):
        return False
    for level in range(found.levels):
        page = shadow_page(cpu, found.places[level])
        if page == NULL:
            continue
        index = (found.places[level] & 0xfff) >> 2
        mirror(cpu, page, index)
        if level == 0 and writable:
            set_bit(page.writable, index)
    return True


cdef void mirror(Cpu *cpu, ShadowPage *page, uint64_t index) noexcept nogil:
    cdef uint64_t entry = physical_load(cpu, page.frame + 4 * index, page.entry_size)
    set_bit(page.present, index)
    memcpy(&page.mirrored[index], &entry, page.entry_size)


cdef void bring_in_sync(Cpu *cpu, ShadowPage *page) noexcept nogil:
    """Drop what is mirrored of entries that are no longer there or name another page, and protect the table."""
    cdef uint64_t index, entry, before
    page.out_of_sync = 0
    if not linked(cpu, page, page.frame):
        empty(page)  # the guest may have made another use of it: it is a page table again when a walk uses it
        return
    for index in range(<uint64_t>1024):
        if not get_bit(page.present, index):
            continue
        entry = physical_load(cpu, page.frame + 4 * index, page.entry_size)
        before = 0
        memcpy(&before, &page.mirrored[index], page.entry_size)
        # An entry that is not marked accessed is not mirrored, nor for writes one that is not dirty: the guest wants to
        # see the mark.
        if not entry & PRESENT or not entry & ACCESSED or (entry ^ before) & TABLE_MASK:
            clear_bit(page.present, index)
            clear_bit(page.writable, index)
        elif not entry & WRITABLE or not entry & DIRTY:
            clear_bit(page.writable, index)
    protect(cpu, page)


cdef void shadow_flush(Cpu *cpu) noexcept nogil:
    cdef ShadowPage *page
    while cpu.out_of_sync != NULL:
        page = cpu.out_of_sync
        cpu.out_of_sync = page.next
        bring_in_sync(cpu, page)


cdef void shadow_flush_page(Cpu *cpu, uint64_t address) noexcept nogil:
    cdef uint64_t place
    cdef ShadowPage **at = &cpu.out_of_sync
    cdef ShadowPage *page
    if cpu.out_of_sync == NULL or not leaf_place(cpu, address, &place):
        return
    while at[0] != NULL and at[0].frame != place & ~<uint64_t>0xfff:
        at = &at[0].next
    if at[0] != NULL:
        page = at[0]
        at[0] = page.next
        bring_in_sync(cpu, page)


cdef bint linked(Cpu *cpu, ShadowPage *page, uint64_t table) noexcept nogil:
    """Would a walk still use this page table? Its parent's entry, or CR3, refers to it."""
    cdef uint64_t mask = TABLE_MASK & cpu.a20_mask
    cdef uint64_t index, entry
    if page.parent != NO_PARENT:
        entry = physical_load(cpu, page.parent, page.entry_size)
        return entry & PRESENT and entry & mask == table
    if cpu.cr4 & CR4_PAE and not cpu.efer & EFER_LMA:
        for index in range(4):
            if cpu.pdpte[index] & PRESENT and cpu.pdpte[index] & mask == table:
                return True
        return False
    return cpu.cr3 & mask == table


cdef bint shadow_write(Cpu *cpu, Op *op, uint64_t address, uint64_t physical_address, uint32_t size) noexcept nogil:
    cdef uint64_t frame = frame_index(cpu, physical_address)
    cdef uint64_t index
    cdef ShadowPage *page = cpu.shadow_pages[frame]
    if not fault_exit(cpu, op, address, PF_PRESENT | PF_WRITE | (PF_USER if cpu.cpl == 3 else 0)):
        return False
    page.writes += 1
    if page.writes >= FLOODING and not linked(cpu, page, physical_address & ~<uint64_t>0xfff):
        empty(page)
        cpu.page_flags[frame] &= ~PAGE_TABLE
        return True
    if not page.upper:
        page.out_of_sync = 1
        page.next = cpu.out_of_sync
        cpu.out_of_sync = page
        cpu.page_flags[frame] &= ~PAGE_TABLE
        return True
    # A write to either half changes an 8-byte entry: clear both bits.
    for index in range(((physical_address & 0xfff) >> 3) << 1, ((((physical_address & 0xfff) + size - 1) >> 3) << 1) + 2):
        clear_bit(page.present, index)
        clear_bit(page.writable, index)
    return True
