# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memset

from hvmx.core.pipeline.paths cimport forget_paths, leave_code
from hvmx.core.state.state cimport *

cdef extern from *:
    int __builtin_ctzll(uint64_t) nogil

# Not the key of any address and mode: addresses are canonical, so where bit 63 is set, bit 47 is, too.
cdef uint64_t NO_JUMP = <uint64_t>1 << 63


cdef inline uint64_t bucket_of(Cpu *cpu, uint64_t physical, uint64_t ip, uint32_t mode) noexcept nogil:
    # Multiply-shift hashing with odd keys that the guest does not know: it cannot choose addresses that collide.
    return (physical * cpu.bucket_keys[0] + ip * cpu.bucket_keys[1] + mode * cpu.bucket_keys[2]) >> (64 - BUCKET_BITS)


cdef uint64_t frame_index(Cpu *cpu, uint64_t physical) noexcept nogil:
    """The index of a RAM page in page_flags and code_pages; all ones outside of RAM."""
    if physical < cpu.ram_low:
        return physical >> 12
    if physical - <uint64_t>0x100000000 < cpu.ram_high:
        return (physical - <uint64_t>0x100000000 + cpu.ram_low) >> 12
    return ~<uint64_t>0


cdef Block *find_block(Cpu *cpu, uint64_t physical, uint64_t ip, uint32_t mode) noexcept nogil:
    cdef Block *block = cpu.buckets[bucket_of(cpu, physical, ip, mode)]
    while block != NULL:
        if block.physical == physical and block.ip == ip and block.mode == mode:
            return block
        block = block.hash_next
    return NULL


cdef Block *allocate_block(Cpu *cpu, uint32_t ops, uint32_t timings) noexcept nogil:
    """Room for a block of at most so many operations and timings. insert_block() then keeps as much of it as the block needs."""
    cdef Block *block
    if cpu.arena_used + sizeof(Block) + ops * sizeof(Op) + timings * sizeof(Timing) > cpu.arena_size:
        flush_code(cpu)
    block = <Block *>(cpu.arena + cpu.arena_used)
    memset(block, 0, sizeof(Block))
    return block


cdef void insert_block(Cpu *cpu, Block *block, uint32_t timings, uint64_t chunks, uint64_t bytes2) noexcept nogil:
    """Insert the block that allocate_block() made room for, with its timings in place. It was decoded from `chunks` of its page, and from the
    first `bytes2` bytes of its second page, if it has one."""
    cdef uint64_t bucket = bucket_of(cpu, block.physical, block.ip, block.mode)
    cpu.arena_used += sizeof(Block) + block.ops * sizeof(Op) + timings * sizeof(Timing)
    block.hash_next = cpu.buckets[bucket]
    cpu.buckets[bucket] = block
    mark_page(cpu, block, block.physical, chunks, 0)
    if block.physical2 != NO_PAGE:
        mark_page(cpu, block, block.physical2, chunk_mask(0, bytes2), 1)


cdef void mark_page(Cpu *cpu, Block *block, uint64_t physical, uint64_t chunks, bint second) noexcept nogil:
    cdef uint64_t frame = frame_index(cpu, physical)
    cdef CodePage *page
    if frame == ~<uint64_t>0:
        return  # ROM does not change
    page = cpu.code_pages[frame]
    if page == NULL:
        page = <CodePage *>calloc(1, sizeof(CodePage))
        if page == NULL:
            cpu.pending |= PEND_FLUSH  # writes to this page cannot be noticed, so its blocks must not be kept
            return
        page.frame = frame
        cpu.code_pages[frame] = page
    if page.next_used == NULL:
        page.next_used = page if cpu.used_pages == NULL else cpu.used_pages
        cpu.used_pages = page
    if page.first == NULL:
        cpu.page_flags[frame] |= PAGE_CODE
        forbid_fast_writes(cpu, physical & ~<uint64_t>0xfff)
    if second:
        block.page2_next = page.first
    else:
        block.page_next = page.first
    page.first = block
    page.chunks |= chunks


cdef uint64_t chunk_mask(uint64_t offset, uint64_t size) noexcept nogil:
    """A bit for each 64-byte piece of a page that [offset, offset + size) overlaps; size is at least 1."""
    cdef uint64_t first = offset >> 6
    cdef uint64_t last = (offset + size - 1) >> 6
    if last > 63:
        last = 63
    return (~<uint64_t>0 << first) & (~<uint64_t>0 >> (63 - last))


cdef void forbid_fast_writes(Cpu *cpu, uint64_t page) noexcept nogil:
    cdef uint64_t frame = frame_index(cpu, page)
    cdef uint32_t kind, word
    cdef uint64_t used
    cdef TlbEntry *entry
    if not cpu.page_flags[frame] & PAGE_OPEN:
        return  # there is none: mostly so where code changes all the time
    cpu.page_flags[frame] &= ~PAGE_OPEN
    cpu.string_op = NULL
    for kind in range(<uint32_t>TLB_KINDS):
        for word in range(<uint32_t>(TLB_ENTRIES // 64)):
            used = cpu.tlb_used[kind][word]
            while used:
                entry = &cpu.tlbs[kind][64 * word + <uint32_t>__builtin_ctzll(used)]
                used &= used - 1
                if entry.phys == page:
                    entry.w = NO_PAGE
                    entry.open &= ~<uint64_t>OPEN_WRITE


cdef inline Block *next_on_page(Block *block, uint64_t physical) noexcept nogil:
    return block.page_next if (block.physical ^ physical) >> 12 == 0 else block.page2_next


cdef void drop_block(Cpu *cpu, Block *block) noexcept nogil:
    cdef uint64_t bucket = bucket_of(cpu, block.physical, block.ip, block.mode)
    cdef Block *other = cpu.buckets[bucket]
    cdef Op *ops = &block.head + 1
    cdef uint32_t index
    cdef JumpEntry *jump = &cpu.jcache[(block.ip ^ (block.ip >> 12)) & (JCACHE_ENTRIES - 1)]
    if other == block:
        cpu.buckets[bucket] = block.hash_next
    else:
        while other.hash_next != block:
            other = other.hash_next
        other.hash_next = block.hash_next
    block.dropped = 1
    for index in range(block.ops):
        ops[index].fn = cpu.stale
    if jump.op == ops:
        jump.key = NO_JUMP
    cpu.link_from = NULL


cdef bint code_written(Cpu *cpu, uint64_t physical, uint64_t size) noexcept nogil:
    """After a write to these bytes of one page: drop the page's blocks, if any of them was decoded from there.

    True if so.
    """
    cdef uint64_t frame = frame_index(cpu, physical)
    cdef CodePage *page
    cdef Block *block
    cdef Block *after
    if frame == ~<uint64_t>0 or not cpu.page_flags[frame] & PAGE_CODE:
        return False
    page = cpu.code_pages[frame]
    if not page.chunks & chunk_mask(physical & 0xfff, size):
        return False
    block = page.first
    while block != NULL:
        after = next_on_page(block, physical)
        if not block.dropped:  # when its other page changed
            drop_block(cpu, block)
        block = after
    page.first = NULL
    page.chunks = 0
    cpu.page_flags[frame] &= ~PAGE_CODE
    return True


cdef void flush_code(Cpu *cpu) noexcept nogil:
    """Drop all blocks and free their memory. Only between blocks."""
    cdef CodePage *page = cpu.used_pages
    cdef CodePage *after
    memset(cpu.buckets, 0, BUCKETS * sizeof(Block *))
    cpu.arena_used = 0
    cpu.host_code_used = 0
    while page != NULL:
        cpu.page_flags[page.frame] &= ~PAGE_CODE
        page.first = NULL
        page.chunks = 0
        after = page.next_used if page.next_used != page else NULL
        page.next_used = NULL
        page = after
    cpu.used_pages = NULL
    cpu.link_from = NULL
    cpu.code_flushes += 1
    flush_jumps(cpu)
    leave_code(cpu)
    forget_paths(cpu)


cdef void flush_jumps(Cpu *cpu) noexcept nogil:
    cdef uint32_t word
    cdef uint64_t used
    cpu.resume = cpu.string_op = NULL
    for word in range(<uint32_t>(JCACHE_ENTRIES // 64)):
        used = cpu.jumps_used[word]
        cpu.jumps_used[word] = 0
        while used:
            cpu.jcache[64 * word + <uint32_t>__builtin_ctzll(used)].key = NO_JUMP
            used &= used - 1


cdef void remember_jump(Cpu *cpu, uint32_t number) noexcept nogil:
    cdef uint64_t bit = <uint64_t>1 << (number & 63)
    cpu.jumps_used[number >> 6] |= bit
    if cpu.code_slot != NO_SLOT:
        cpu.tlb_model.jump_words[cpu.code_slot * (JCACHE_ENTRIES // 64) + (number >> 6)] |= bit


cdef void drop_jumps(Cpu *cpu, uint32_t slot) noexcept nogil:
    cdef uint64_t *words = cpu.tlb_model.jump_words + slot * (JCACHE_ENTRIES // 64)
    cdef uint32_t word
    cdef uint64_t some
    for word in range(<uint32_t>(JCACHE_ENTRIES // 64)):
        some = words[word]
        words[word] = 0
        while some:
            # It may meanwhile be that of another page, which is then looked up again.
            cpu.jcache[64 * word + <uint32_t>__builtin_ctzll(some)].key = NO_JUMP
            some &= some - 1
