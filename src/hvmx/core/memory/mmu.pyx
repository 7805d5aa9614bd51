# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from hvmx.core.memory.caches cimport access_line, forget_line
from hvmx.core.memory.codecache cimport code_written, drop_jumps, flush_jumps, frame_index
from hvmx.core.memory.cut cimport cut_after, end_budget
from hvmx.core.exit.door cimport before_exit, describe_exit, exit_to_handler
from hvmx.core.state.ops cimport fault
from hvmx.core.memory.paging cimport Translation, allowed, allows, translate, translates
from hvmx.core.memory.shadow cimport shadow_fill, shadow_flush, shadow_flush_page, shadow_write
from hvmx.core.memory.tlb cimport *
from hvmx.core.pipeline.hot cimport charge
from hvmx.core.state.state cimport *

cdef extern from *:
    int __builtin_ctzll(uint64_t) nogil

cdef enum:
    READ = 0
    WRITE = 1
    FETCH = 2

cdef uint64_t PAGE_MASK = ~<uint64_t>0xfff
cdef uint64_t FOUR_GIB = <uint64_t>1 << 32


# --- physical memory --------------------------------------------------------------------------------------------------
cdef uint8_t *physical(Cpu *cpu, uint64_t address) noexcept nogil:
    cdef uint32_t index
    if address < cpu.ram_low:
        if cpu.page_flags[address >> 12] & PAGE_HOLE:
            return NULL
        return cpu.ram + address
    if address - FOUR_GIB < cpu.ram_high:
        if cpu.page_flags[(address - FOUR_GIB + cpu.ram_low) >> 12] & PAGE_HOLE:
            return NULL
        return cpu.ram + cpu.ram_low + (address - FOUR_GIB)
    for index in range(cpu.rom_count):
        if address - cpu.roms[index].base < cpu.roms[index].size:
            return cpu.roms[index].host + (address - cpu.roms[index].base)
    return NULL


cdef uint32_t flags_of(Cpu *cpu, uint64_t address) noexcept nogil:
    """PAGE_* of the page at a guest-physical address; outside of RAM it is ROM or a hole."""
    if address < cpu.ram_low:
        return cpu.page_flags[address >> 12]
    if address - FOUR_GIB < cpu.ram_high:
        return cpu.page_flags[(address - FOUR_GIB + cpu.ram_low) >> 12]
    return PAGE_ROM if physical(cpu, address) != NULL else PAGE_HOLE


cdef uint64_t physical_load(Cpu *cpu, uint64_t address, uint32_t size) noexcept nogil:
    cdef uint64_t value = 0
    cdef uint8_t *memory = physical(cpu, address)
    cdef uint32_t here = 4096 - <uint32_t>(address & 0xfff)
    if here < size:
        # The next guest-physical page may be elsewhere in host memory, or not RAM.
        return physical_load(cpu, address, here) | physical_load(cpu, address + here, size - here) << (8 * here)
    if memory == NULL:
        return ~<uint64_t>0 >> (64 - 8 * size)
    memcpy(&value, memory, size)
    return value


cdef void physical_store(Cpu *cpu, uint64_t address, uint32_t size, uint64_t value) noexcept nogil:
    cdef uint8_t *memory = physical(cpu, address)
    cdef uint32_t here = 4096 - <uint32_t>(address & 0xfff)
    if here < size:
        physical_store(cpu, address, here, value)
        physical_store(cpu, address + here, size - here, value >> (8 * here))
        return
    if memory == NULL or flags_of(cpu, address) & PAGE_ROM:
        return
    memcpy(memory, &value, size)
    code_written(cpu, address, size)


# --- exits --------------------------------------------------------------------------------------------------------------
cdef bint memory_exit(Cpu *cpu, Op *op, uint32_t reason) noexcept nogil:
    """Take cpu.exit, filled in but for the reason, to its handler. False: the access does not happen, as cpu.fault says."""
    cdef uint64_t rip = cpu.rip
    cdef ExitOutcome outcome
    if op != NULL:
        before_exit(cpu, op)
        cpu.rip = op.ip
        cpu.exit.length = op.len
    outcome = exit_to_handler(cpu, reason)
    if outcome == EXIT_RAISED:
        cpu.fault = FAULT_ABORT
        return False
    if outcome == EXIT_INJECTED:  # the state is that of before the instruction
        return False
    if op != NULL:
        if outcome == EXIT_MOVED:
            cpu.fault = FAULT_SKIP
            cpu.acct += (1 << ACCT_SHIFT) + 1  # counts as one instruction at minimum cost
            return False
        cpu.rip = rip
    end_budget(cpu, op)  # the handler may have let time pass, or made something due
    return True


cdef uint64_t mmio_load(Cpu *cpu, Op *op, uint64_t linear_address, uint64_t address, uint32_t size) noexcept nogil:
    describe_exit(cpu, 0, ~<uint64_t>0 >> (64 - 8 * size), size, False, 0x181)
    cpu.exit.linear = linear_address
    cpu.exit.physical = address
    if not memory_exit(cpu, op, EXIT_REASON_EPT_MISCONFIG):
        return 0
    return cpu.exit.value & (~<uint64_t>0 >> (64 - 8 * size))


cdef void mmio_store(Cpu *cpu, Op *op, uint64_t linear_address, uint64_t address, uint32_t size,
                     uint64_t value) noexcept nogil:
    describe_exit(cpu, 0, value & (~<uint64_t>0 >> (64 - 8 * size)), size, True, 0x182)
    cpu.exit.linear = linear_address
    cpu.exit.physical = address
    memory_exit(cpu, op, EXIT_REASON_EPT_MISCONFIG)


# --- the software TLB -----------------------------------------------------------------------------------------------------
cdef TlbEntry *lookup(Cpu *cpu, Op *op, uint32_t kind, uint64_t address, uint32_t access) noexcept nogil:
    """The entry that permits this access, filled if it is not there; NULL on a fault."""
    cdef TlbEntry *entry = &cpu.tlbs[kind][(address >> 12) & (TLB_ENTRIES - 1)]
    cdef uint64_t page = address & PAGE_MASK
    if entry.tag == page:
        if access == READ:
            if entry.rights & TLB_DATA:
                return entry
        elif access == WRITE:
            if entry.rights & (TLB_WRITE | TLB_DIRTY | TLB_DATA) == (TLB_WRITE | TLB_DIRTY | TLB_DATA):
                if entry.w == NO_PAGE and not entry.open & OPEN_WRITE:
                    open_fast_paths(cpu, kind, entry)
                return entry
        elif entry.rights & (TLB_EXEC | TLB_CODE) == (TLB_EXEC | TLB_CODE):
            return entry
    return refill(cpu, op, kind, entry, address, access)


cdef bint canonical(Cpu *cpu, Op *op, uint64_t address, uint32_t access) noexcept nogil:
    """Sets cpu.fault for a non-canonical address (SDM vol. 1, 3.3.7.1): #SS for those through the stack segment."""
    if cpu.efer & EFER_LMA and <uint64_t>(<int64_t>(address << 16) >> 16) != address:
        fault(cpu, op, VEC_SS if op != NULL and op.seg == SEG_SS and access != FETCH else VEC_GP, 0)
        return False
    return True


cdef TlbEntry *refill(Cpu *cpu, Op *op, uint32_t kind, TlbEntry *entry, uint64_t address,
                      uint32_t access) noexcept nogil:
    """What the software TLB lacks, from the model's first level, free; from its second; or by a walk."""
    cdef Held held
    cdef uint32_t part = TLB_OF_CODE if access == FETCH else TLB_OF_DATA
    cdef bint known
    if not canonical(cpu, op, address, access):
        return NULL
    if not translates(cpu):
        held.page = address & PAGE_MASK | MAP_WRITABLE | MAP_DIRTY
        held.size = PAGE_4K
        held.slot = <uint32_t>NO_SLOT
        return fill(cpu, kind, entry, address, access, &held)
    known = find(cpu, part, address, &held)
    if known and suffices(cpu, held.page, kind, access):
        return fill(cpu, kind, entry, address, access, &held)
    if not known:
        known = find(cpu, TLB_SECOND, address, &held)
        if known and suffices(cpu, held.page, kind, access):
            cpu.tlb_second_hits += 1
            spend(cpu, op, CHARGE_CODE_TLB_HIT if access == FETCH else CHARGE_DATA_TLB_HIT, 1, cpu.tlb_model.second_hit_cost)
            hold_first(cpu, part, address, held.size, held.page, True, &held)
            return fill(cpu, kind, entry, address, access, &held)
    # An entry that does not allow the access, or would have to be marked dirty, takes a walk, too, but is no miss.
    if not walk(cpu, op, kind, address, access, not known, &held):
        return NULL
    return fill(cpu, kind, entry, address, access, &held)


cdef inline bint suffices(Cpu *cpu, uint64_t page, uint32_t kind, uint32_t access) noexcept nogil:
    return allows(cpu, page, kind, access) and (access != WRITE or page & MAP_DIRTY)


cdef inline uint32_t walk_for(uint32_t access) noexcept nogil:
    return CHARGE_CODE_WALK if access == FETCH else CHARGE_DATA_WALK


cdef inline void spend(Cpu *cpu, Op *op, uint32_t kind, uint32_t count, uint32_t cost) noexcept nogil:
    charge(cpu, kind, count, cost)
    if op != NULL and cpu.acct >= 0:
        cut_after(cpu, op)  # the rest of the block may be more than what is left of the budget


cdef bint walk(Cpu *cpu, Op *op, uint32_t kind, uint64_t address, uint32_t access, bint miss,
               Held *held) noexcept nogil:
    """A page walk, and into the model what it finds. False: cpu.fault is set."""
    cdef Translation found
    cdef uint64_t rip
    cdef uint32_t flags
    cpu.tlb_misses += miss
    if not translate(cpu, address, kind, access, &found):
        charge(cpu, walk_for(access), found.references, found.cost)
        cpu.cr2 = address
        forget_translation(cpu, address)  # as page faults do (SDM vol. 3, 4.10.4.1)
        fault(cpu, op, VEC_PF, found.error)
        return False
    spend(cpu, op, walk_for(access), found.references, found.cost)
    if cpu.controls & CTL_SHADOW_PAGING and found.levels and not shadow_fill(cpu, op, address, access, &found):
        take_back(cpu, &found, access, miss)
        return False
    found.physical &= cpu.a20_mask
    flags = flags_of(cpu, found.physical)
    if cpu.controls & CTL_EPT and not flags & (PAGE_BACKED | PAGE_HOLE | PAGE_ROM):
        # The first access to a guest-physical page: nested paging has no mapping for it yet.
        describe_exit(cpu, 0, 0, 0, access == WRITE, (1 << access) | 0x180)
        cpu.exit.linear = address
        cpu.exit.physical = found.physical | (address & 0xfff)
        rip = cpu.rip
        if not memory_exit(cpu, op, EXIT_REASON_EPT_VIOLATION):
            take_back(cpu, &found, access, miss)
            return False
        if access == FETCH and cpu.rip != rip:
            cpu.fault = FAULT_SKIP
            return False
        if found.physical < cpu.ram_low:
            cpu.page_flags[found.physical >> 12] |= PAGE_BACKED
        else:
            cpu.page_flags[(found.physical - FOUR_GIB + cpu.ram_low) >> 12] |= PAGE_BACKED
    hold(cpu, TLB_SECOND, address, found.size, found.physical | found.rights, miss, held)
    hold_first(cpu, TLB_OF_CODE if access == FETCH else TLB_OF_DATA, address, found.size,
               found.physical | found.rights, miss, held)
    return True


cdef void take_back(Cpu *cpu, Translation *found, uint32_t access, bint miss) noexcept nogil:
    """If the exit handler raised an error, take back the costs of the walk: the instruction will repeat it."""
    if cpu.fault == FAULT_ABORT:
        charge(cpu, walk_for(access), -<int64_t>found.references, -<int64_t>found.cost)
        cpu.walk_references -= found.references
        cpu.tlb_misses -= miss
        undo_walk(cpu)


cdef void hold_first(Cpu *cpu, uint32_t part, uint64_t address, uint32_t size, uint64_t page, bint absent,
                     Held *held) noexcept nogil:
    """Into the model's first level. What has to go from there goes from the software TLB and the jump cache, too."""
    cdef uint32_t shift
    cdef uint64_t gone
    hold(cpu, part, address, size, page, absent, held)
    if part == TLB_OF_CODE:
        drop_jumps(cpu, held.slot)
    if held.evicted:
        gone = page_of_key(held.evicted, &shift)
        drop_part(cpu, gone, shift, TLB_CODE if part == TLB_OF_CODE else TLB_DATA)
        cpu.string_op = NULL


cdef TlbEntry *fill(Cpu *cpu, uint32_t kind, TlbEntry *entry, uint64_t address, uint32_t access,
                    Held *held) noexcept nogil:
    """Let the software TLB answer for a page that the model's first level holds for this kind of access."""
    cdef uint64_t page = address & PAGE_MASK
    cdef uint64_t physical_page = held.page & PAGE_MASK & cpu.a20_mask
    cdef uint64_t rights = allowed(cpu, held.page, kind)
    cdef uint32_t number = <uint32_t>(entry - cpu.tlbs[kind])
    cdef uint64_t bit = <uint64_t>1 << (number & 63)
    if held.page & MAP_DIRTY:
        rights |= TLB_DIRTY
    if held.page & MAP_GLOBAL:
        rights |= TLB_GLOBAL
    if held.page & (MAP_PIECE_2M | MAP_PIECE_1G):
        rights |= TLB_LARGE | (TLB_HUGE if held.page & MAP_PIECE_1G else 0)
    # What is known of the page for the other kind of access stays so, if it is the same page.
    if entry.tag != page or entry.phys != physical_page:
        entry.rights = 0
    if access == FETCH:
        entry.slot = held.slot
        entry.rights = entry.rights & ~<uint64_t>TLB_EXEC | TLB_CODE | rights & ~<uint64_t>(TLB_WRITE | TLB_DIRTY)
    else:
        entry.rights = entry.rights & ~<uint64_t>(TLB_WRITE | TLB_DIRTY) | TLB_DATA | rights & ~<uint64_t>TLB_EXEC
    if not rights & TLB_GLOBAL:
        entry.rights &= ~<uint64_t>TLB_GLOBAL
    cpu.tlb_used[kind][number >> 6] |= bit
    if entry.rights & TLB_GLOBAL:
        cpu.tlb_global[kind][number >> 6] |= bit
    else:
        cpu.tlb_global[kind][number >> 6] &= ~bit
    if entry.rights & TLB_LARGE:
        cpu.tlb_large[kind][number >> 6] |= bit
    else:
        cpu.tlb_large[kind][number >> 6] &= ~bit
    entry.tag = page
    entry.phys = physical_page
    open_fast_paths(cpu, kind, entry)
    return entry


cdef void open_fast_paths(Cpu *cpu, uint32_t kind, TlbEntry *entry) noexcept nogil:
    """Set the fast paths of an entry: reads and writes that need no further check, nor any action.

    Where caches are modelled each has to be seen: then it only says, in `open`, that nothing else has to be done.
    """
    cdef uint32_t flags = flags_of(cpu, entry.phys)
    cdef uint8_t *memory = physical(cpu, entry.phys)
    close_fast_paths(entry)
    if memory == NULL or kind == TLB_USER_AC or not entry.rights & TLB_DATA or breakpoint_on(cpu, entry.tag):
        return
    entry.addend = <int64_t>memory - <int64_t>entry.tag
    if cpu.caches != NULL:
        entry.open = OPEN_READ
    else:
        entry.r = entry.tag
    if (entry.rights & (TLB_WRITE | TLB_DIRTY) == (TLB_WRITE | TLB_DIRTY)
            and not flags & (PAGE_ROM | PAGE_CODE | PAGE_TABLE)):
        if cpu.caches != NULL:
            entry.open |= OPEN_WRITE
        else:
            entry.w = entry.tag
        cpu.page_flags[frame_index(cpu, entry.phys)] |= PAGE_OPEN


cdef void drop_translations(Cpu *cpu, bint all) noexcept nogil:
    cdef uint32_t kind, word
    cdef uint64_t used
    for kind in range(<uint32_t>TLB_KINDS):
        for word in range(<uint32_t>(TLB_ENTRIES // 64)):
            # Entries that stay are not visited: however many they are, a flush takes no longer.
            used = cpu.tlb_used[kind][word] & (~<uint64_t>0 if all else ~cpu.tlb_global[kind][word])
            cpu.tlb_used[kind][word] ^= used
            while used:
                drop(&cpu.tlbs[kind][64 * word + <uint32_t>__builtin_ctzll(used)])
                used &= used - 1
    flush_jumps(cpu)


cdef void flush_tlb(Cpu *cpu, bint all) noexcept nogil:
    if all:
        forget_all(cpu)
    else:
        forget_pcid(cpu, pcid_of(cpu))
    drop_translations(cpu, all)
    shadow_flush(cpu)


cdef void flush_page(Cpu *cpu, uint64_t address) noexcept nogil:
    forget_translation(cpu, address)
    shadow_flush_page(cpu, address)


cdef void forget_translation(Cpu *cpu, uint64_t address) noexcept nogil:
    forget_page(cpu, address, pcid_of(cpu), True)
    drop_page(cpu, address)


cdef void drop_page(Cpu *cpu, uint64_t address) noexcept nogil:
    drop_part(cpu, address, 12, TLB_DATA | TLB_CODE)
    # An entry may translate 4 KiB of a large page: INVLPG of any part of it invalidates them all (SDM vol. 3,
    # 4.10.4.1). Pages of 2 MiB are treated as of 4 MiB: their neighbours are dropped, too, and found in the model.
    drop_part(cpu, address, 22, TLB_DATA | TLB_CODE)
    cpu.resume = cpu.string_op = NULL


cdef void drop_part(Cpu *cpu, uint64_t address, uint32_t shift, uint64_t part) noexcept nogil:
    """Drop the entries of a page of 1 << `shift` bytes, as far as they are for data (TLB_DATA) or for code."""
    cdef uint32_t kind, word
    cdef uint64_t used
    cdef uint32_t number = <uint32_t>(address >> 12) & (TLB_ENTRIES - 1)
    cdef TlbEntry *entry
    for kind in range(<uint32_t>TLB_KINDS):
        if shift == 12:
            entry = &cpu.tlbs[kind][number]
            if cpu.tlb_used[kind][number >> 6] >> (number & 63) & 1 and entry.tag == address & PAGE_MASK:
                forbid(entry, part)
            continue
        for word in range(<uint32_t>(TLB_ENTRIES // 64)):
            used = cpu.tlb_used[kind][word] & cpu.tlb_large[kind][word]
            while used:
                entry = &cpu.tlbs[kind][64 * word + <uint32_t>__builtin_ctzll(used)]
                used &= used - 1
                if (entry.tag ^ address) >> (30 if entry.rights & TLB_HUGE else shift) == 0:
                    forbid(entry, part)


cdef inline void forbid(TlbEntry *entry, uint64_t part) noexcept nogil:
    entry.rights &= ~part
    if part & TLB_DATA:
        close_fast_paths(entry)
    if not entry.rights & (TLB_DATA | TLB_CODE):
        drop(entry)


cdef inline void drop(TlbEntry *entry) noexcept nogil:
    entry.tag = NO_PAGE
    close_fast_paths(entry)


cdef inline void close_fast_paths(TlbEntry *entry) noexcept nogil:
    entry.r = NO_PAGE
    entry.w = NO_PAGE
    entry.open = 0


# --- breakpoints on data and ports (SDM vol. 3, 17.2) -------------------------------------------------------------------
cdef bint breakpoint_on(Cpu *cpu, uint64_t page) noexcept nogil:
    cdef uint32_t index
    if not cpu.dr[7] & 0xff:
        return False
    for index in range(4):
        if (cpu.dr[7] >> (2 * index)) & 3 and (cpu.dr[index] & PAGE_MASK) == page:
            return True
    return False


cdef void check_breakpoints(Cpu *cpu, uint64_t address, uint32_t size, uint32_t conditions) noexcept nogil:
    cdef uint32_t index
    cdef uint64_t length
    for index in range(4):
        if not (cpu.dr[7] >> (2 * index)) & 3:
            continue
        if not (conditions >> ((cpu.dr[7] >> (16 + 4 * index)) & 3)) & 1:
            continue
        length = (cpu.dr[7] >> (18 + 4 * index)) & 3
        length = 8 if length == 2 else length + 1
        if address < (cpu.dr[index] & ~(length - 1)) + length and (cpu.dr[index] & ~(length - 1)) < address + size:
            cpu.dr6_pending |= <uint64_t>1 << index
            cpu.pending |= PEND_TRAP


# --- slow paths -----------------------------------------------------------------------------------------------------------
cdef uint64_t linear_mask(Cpu *cpu) noexcept nogil:
    """Linear addresses have 32 bits outside of 64-bit mode."""
    return ~<uint64_t>0 if cpu.mode & MODE_WIDTH == MODE_64 else <uint64_t>0xffffffff


cdef uint64_t system_mask(Cpu *cpu) noexcept nogil:
    """Tables and inner stacks have 64-bit addresses even in compatibility mode (SDM vol. 3, 2.1.1.1)."""
    return ~<uint64_t>0 if cpu.efer & EFER_LMA else <uint64_t>0xffffffff


cdef uint64_t load_part(Cpu *cpu, Op *op, TlbEntry *entry, uint64_t address, uint32_t size) noexcept nogil:
    cdef uint64_t value = 0
    cdef uint32_t here
    cdef uint8_t *memory = physical(cpu, entry.phys | (address & 0xfff))
    if memory == NULL and size & (size - 1):
        # One part of an access across pages may have 3, 5, 6 or 7 bytes: devices are asked for 1, 2, 4 or 8.
        here = 4 if size > 4 else 2
        value = mmio_load(cpu, op, address, entry.phys | (address & 0xfff), here)
        return 0 if cpu.fault else value | load_part(cpu, op, entry, address + here, size - here) << (8 * here)
    if memory == NULL:
        return mmio_load(cpu, op, address, entry.phys | (address & 0xfff), size)
    if cpu.caches != NULL:
        access_line(cpu, op, entry.phys | (address & 0xfff), size, False)
    memcpy(&value, memory, size)
    return value


cdef void store_part(Cpu *cpu, Op *op, TlbEntry *entry, uint64_t address, uint32_t size,
                     uint64_t value) noexcept nogil:
    cdef uint64_t target = entry.phys | (address & 0xfff)
    cdef uint32_t flags, here
    cdef uint8_t *memory = physical(cpu, target)
    if memory == NULL and size & (size - 1):
        here = 4 if size > 4 else 2
        mmio_store(cpu, op, address, target, here, value)
        if not cpu.fault:
            store_part(cpu, op, entry, address + here, size - here, value >> (8 * here))
        return
    if memory == NULL:
        mmio_store(cpu, op, address, target, size, value)
        return
    flags = flags_of(cpu, target)
    if flags & PAGE_ROM or flags & PAGE_TABLE and not shadow_write(cpu, op, address, target, size):
        return
    if cpu.caches != NULL:
        access_line(cpu, op, target, size, True)
    memcpy(memory, &value, size)
    if flags & PAGE_CODE:
        code_written(cpu, target, size)


cdef bint misaligned(Cpu *cpu, Op *op, uint32_t kind, uint64_t address, uint32_t size) noexcept nogil:
    if kind == TLB_USER_AC and address & (size - 1):
        fault(cpu, op, VEC_AC, 0)
        return True
    return False


cdef uint64_t load_kind(Cpu *cpu, Op *op, uint32_t kind, uint64_t address, uint32_t size,
                        uint64_t mask) noexcept nogil:
    cdef TlbEntry *entry
    cdef TlbEntry *entry2
    cdef uint32_t here
    cdef uint64_t value, address2
    address &= mask
    if misaligned(cpu, op, kind, address, size) or not canonical(cpu, op, (address + size - 1) & mask, READ):
        return 0
    entry = lookup(cpu, op, kind, address, READ)
    if entry == NULL:
        return 0
    if cpu.dr[7] & 0xff:
        check_breakpoints(cpu, address, size, BREAK_ON_READ)
    if (address & 0xfff) + size <= 4096:
        return load_part(cpu, op, entry, address, size)
    here = 4096 - <uint32_t>(address & 0xfff)
    address2 = (address + here) & mask
    entry2 = lookup(cpu, op, kind, address2, READ)
    if entry2 == NULL:
        return 0
    value = load_part(cpu, op, entry, address, here)
    if cpu.fault:
        return 0
    return value | (load_part(cpu, op, entry2, address2, size - here) << (8 * here))


cdef void store_kind(Cpu *cpu, Op *op, uint32_t kind, uint64_t address, uint32_t size, uint64_t value,
                     uint64_t mask) noexcept nogil:
    cdef TlbEntry *entry
    cdef TlbEntry *entry2
    cdef uint32_t here
    cdef uint64_t address2
    address &= mask
    if misaligned(cpu, op, kind, address, size) or not canonical(cpu, op, (address + size - 1) & mask, WRITE):
        return
    entry = lookup(cpu, op, kind, address, WRITE)
    if entry == NULL:
        return
    if (address & 0xfff) + size <= 4096:
        if cpu.dr[7] & 0xff:
            check_breakpoints(cpu, address, size, BREAK_ON_WRITE)
        store_part(cpu, op, entry, address, size, value)
        return
    here = 4096 - <uint32_t>(address & 0xfff)
    address2 = (address + here) & mask
    entry2 = lookup(cpu, op, kind, address2, WRITE)
    if entry2 == NULL:
        return
    if cpu.dr[7] & 0xff:
        check_breakpoints(cpu, address, size, BREAK_ON_WRITE)
    store_part(cpu, op, entry, address, here, value)
    if not cpu.fault:
        store_part(cpu, op, entry2, address2, size - here, value >> (8 * here))


# Outside of 64-bit mode: does the access reach beyond 4 GiB in a flat segment? Whether that exceeds the limit is
# implementation-specific (SDM vol. 3, 5.3); on processors it does.
cdef bint wraps(Cpu *cpu, Op *op, uint64_t address, uint32_t size) noexcept nogil:
    if address + size <= FOUR_GIB or cpu.mode & MODE_WIDTH == MODE_64 or op == NULL or cpu.seg[op.seg].base != 0:
        return False
    fault(cpu, op, VEC_SS if op.seg == SEG_SS else VEC_GP, 0)
    return True


cdef inline TlbEntry *opened(Cpu *cpu, uint64_t address, uint32_t size, uint64_t open) noexcept nogil:
    """The entry by which the access, all of it on one page, has but its cache line to look up; else NULL."""
    cdef TlbEntry *entry = tlb_entry(cpu, address)
    return entry if entry.open & open and (address + size - 1) & PAGE_MASK == entry.tag else NULL


cdef uint64_t load_slow(Cpu *cpu, Op *op, uint64_t address, uint32_t size) noexcept nogil:
    cdef TlbEntry *entry
    cdef uint64_t value = 0
    if cpu.caches != NULL:
        entry = opened(cpu, address, size, OPEN_READ)
        if entry != NULL:
            access_line(cpu, op, entry.phys | (address & 0xfff), size, False)
            memcpy(&value, host(entry, address), size)
            return value
    if wraps(cpu, op, address, size):
        return 0
    return load_kind(cpu, op, cpu.tlb_kind, address, size, linear_mask(cpu))


cdef void store_slow(Cpu *cpu, Op *op, uint64_t address, uint32_t size, uint64_t value) noexcept nogil:
    cdef TlbEntry *entry
    if cpu.caches != NULL:
        entry = opened(cpu, address, size, OPEN_WRITE)
        if entry != NULL:
            access_line(cpu, op, entry.phys | (address & 0xfff), size, True)
            memcpy(host(entry, address), &value, size)
            return
    if wraps(cpu, op, address, size):
        return
    store_kind(cpu, op, cpu.tlb_kind, address, size, value, linear_mask(cpu))


cdef uint8_t *rmw_slow(Cpu *cpu, Op *op, uint64_t address, uint32_t size) noexcept nogil:
    cdef TlbEntry *entry
    if cpu.caches != NULL:
        entry = opened(cpu, address, size, OPEN_WRITE)
        if entry != NULL:
            access_line(cpu, op, entry.phys | (address & 0xfff), size, False)
            access_line(cpu, op, entry.phys | (address & 0xfff), size, True)
            return host(entry, address)
    if (wraps(cpu, op, address, size) or misaligned(cpu, op, cpu.tlb_kind, address, size)
            or not probe_write(cpu, op, address, size)):
        return NULL
    cpu.rmw_value = load_kind(cpu, op, cpu.tlb_kind, address, size, linear_mask(cpu))
    return NULL if cpu.fault else <uint8_t *>&cpu.rmw_value


cdef void flush_line(Cpu *cpu, Op *op, uint64_t address) noexcept nogil:
    cdef TlbEntry *entry
    address &= linear_mask(cpu)
    if not canonical(cpu, op, address, READ):
        return
    entry = lookup(cpu, op, cpu.tlb_kind, address, READ)
    if entry == NULL:
        return
    if cpu.dr[7] & 0xff:
        check_breakpoints(cpu, address, 1, BREAK_ON_READ)
    forget_line(cpu, entry.phys | (address & 0xfff))


cdef bint probe(Cpu *cpu, Op *op, uint64_t address, uint32_t size, uint32_t access) noexcept nogil:
    cdef uint64_t mask = linear_mask(cpu)
    cdef uint64_t last = (address + size - 1) & mask
    address &= mask
    if not canonical(cpu, op, last, access) or lookup(cpu, op, cpu.tlb_kind, address, access) == NULL:
        return False
    if (address & 0xfff) + size > 4096:
        return lookup(cpu, op, cpu.tlb_kind, last & PAGE_MASK, access) != NULL
    return True


cdef bint probe_write(Cpu *cpu, Op *op, uint64_t address, uint32_t size) noexcept nogil:
    return probe(cpu, op, address, size, WRITE)


cdef bint probe_read(Cpu *cpu, Op *op, uint64_t address, uint32_t size) noexcept nogil:
    return probe(cpu, op, address, size, READ)


cdef uint64_t system_load(Cpu *cpu, Op *op, uint64_t address, uint32_t size) noexcept nogil:
    return load_kind(cpu, op, TLB_SUPER, address, size, system_mask(cpu))


cdef void system_store(Cpu *cpu, Op *op, uint64_t address, uint32_t size, uint64_t value) noexcept nogil:
    store_kind(cpu, op, TLB_SUPER, address, size, value, system_mask(cpu))


cdef uint32_t kind_of(Cpu *cpu, uint32_t cpl) noexcept nogil:
    if cpl == 3:
        return TLB_USER_AC if cpu.cr0 & CR0_AM and cpu.rflags & FL_AC else TLB_USER
    return TLB_SUPER_AC if cpu.rflags & FL_AC else TLB_SUPER


cdef uint64_t load_as(Cpu *cpu, Op *op, uint32_t cpl, uint64_t address, uint32_t size) noexcept nogil:
    return load_kind(cpu, op, kind_of(cpu, cpl), address, size, system_mask(cpu))


cdef void store_as(Cpu *cpu, Op *op, uint32_t cpl, uint64_t address, uint32_t size, uint64_t value) noexcept nogil:
    store_kind(cpu, op, kind_of(cpu, cpl), address, size, value, system_mask(cpu))


cdef bint fetch_page(Cpu *cpu, uint64_t address, uint64_t *page) noexcept nogil:
    cdef TlbEntry *entry = lookup(cpu, NULL, cpu.tlb_kind, address, FETCH)
    if entry == NULL:
        return False
    page[0] = entry.phys
    cpu.code_slot = entry.slot
    return True
