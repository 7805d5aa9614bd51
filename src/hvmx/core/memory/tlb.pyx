# cython: language_level=3
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from hvmx.core.memory.caches cimport walk_reads
from hvmx.core.memory.codecache cimport drop_jumps
from hvmx.core.state.state cimport *

# An entry's key: number of the linear page, in units of its size; PCID; size; global; valid.
cdef enum:
    PCID_SHIFT = 36
    SIZE_SHIFT = 48
    NESTED_LEVELS = 4
    MOST_ENTRIES = 1 << 16   # of one TLB or cache: more than any processor has
    NOT_HELD = 1 << 30
cdef uint64_t NUMBER = (<uint64_t>1 << PCID_SHIFT) - 1
cdef uint64_t GLOBAL = <uint64_t>1 << 50
cdef uint64_t VALID = <uint64_t>1 << 51


# --- entries --------------------------------------------------------------------------------------------------------------
cdef inline uint64_t number_of(uint64_t address, uint32_t size) noexcept nogil:
    return (address >> PAGE_SHIFT_OF(size)) & NUMBER


cdef inline uint64_t key_of(uint64_t number, uint32_t size, uint32_t pcid) noexcept nogil:
    return VALID | <uint64_t>size << SIZE_SHIFT | <uint64_t>pcid << PCID_SHIFT | number


cdef inline uint64_t global_key_of(uint64_t number, uint32_t size) noexcept nogil:
    return VALID | GLOBAL | <uint64_t>size << SIZE_SHIFT | number


cdef inline uint32_t pcid_of_key(uint64_t key) noexcept nogil:
    return <uint32_t>(key >> PCID_SHIFT) & (PCIDS - 1)


cdef inline bint valid(TlbModel *model, uint64_t key, uint64_t stamp) noexcept nogil:
    if key == 0 or stamp < model.all_flushed:
        return False
    return key & GLOBAL != 0 or stamp >= model.private_flushed and stamp >= model.flushed[pcid_of_key(key)]


cdef inline uint32_t first_way(TlbArray *array, uint64_t number) noexcept nogil:
    """The number of the first entry of the set in which a page can be."""
    return <uint32_t>(number & array.mask if array.mask != NO_MASK else number % array.sets) * array.ways


cdef uint64_t page_of_key(uint64_t key, uint32_t *shift) noexcept nogil:
    cdef uint64_t number = key & NUMBER
    shift[0] = PAGE_SHIFT_OF(<uint32_t>(key >> SIZE_SHIFT) & 3)
    # Sign-extended: linear addresses of 48 bits are canonical, and shorter ones have zeros there.
    return <uint64_t>(<int64_t>(number << (shift[0] + 16)) >> 16)


cdef inline uint32_t entry_for(TlbModel *model, TlbArray *array, uint32_t size, uint64_t address,
                               uint32_t pcid) noexcept nogil:
    """The number of the valid entry for an address, or NOT_HELD."""
    cdef uint64_t number = number_of(address, size)
    cdef uint64_t own = key_of(number, size, pcid), shared = global_key_of(number, size)
    cdef uint32_t first = first_way(array, number), entry
    for entry in range(first, first + array.ways):
        if (array.key[entry] == own or array.key[entry] == shared) and valid(model, array.key[entry], array.stamp[entry]):
            return entry
    return NOT_HELD


cdef inline void describe(TlbArray *array, uint32_t entry, uint32_t size, uint64_t address, Held *held) noexcept nogil:
    held.size = size
    held.slot = array.first + entry
    held.page = array.page[entry] | address & ((<uint64_t>1 << PAGE_SHIFT_OF(size)) - 1) & ~<uint64_t>0xfff


cdef bint find(Cpu *cpu, uint32_t part, uint64_t address, Held *held) noexcept nogil:
    cdef TlbModel *model = cpu.tlb_model
    cdef uint32_t size, entry, pcid = pcid_of(cpu)
    cdef TlbArray *array
    for size in range(<uint32_t>PAGE_SIZES):
        array = &model.arrays[part][size]
        if not array.used:
            continue
        entry = entry_for(model, array, size, address, pcid)
        if entry != NOT_HELD:
            describe(array, entry, size, address, held)
            return True
    return False


cdef inline uint32_t replaceable(TlbModel *model, TlbArray *array, uint64_t number) noexcept nogil:
    """The entry of a set that a new one takes the place of."""
    cdef uint32_t first = first_way(array, number), in_set = first // array.ways, entry, way
    if array.full[in_set] != model.flushes:
        for entry in range(first, first + array.ways):
            if not valid(model, array.key[entry], array.stamp[entry]):
                return entry
        array.full[in_set] = model.flushes
    way = array.next[in_set]
    array.next[in_set] = way + 1 if way + 1 < array.ways else 0
    return first + way


cdef void hold(Cpu *cpu, uint32_t part, uint64_t address, uint32_t size, uint64_t page, bint absent,
               Held *held) noexcept nogil:
    cdef TlbModel *model = cpu.tlb_model
    cdef TlbArray *array
    cdef uint32_t entry = NOT_HELD, pcid = pcid_of(cpu)
    cdef uint64_t number
    held.evicted = 0
    while part != TLB_SECOND and size and model.arrays[part][size].entries == 0:
        size -= 1
    array = &model.arrays[part][size]
    if array.entries == 0:
        return
    number = number_of(address, size)
    if not absent:
        entry = entry_for(model, array, size, address, pcid)
    if entry == NOT_HELD:
        entry = replaceable(model, array, number)
        if valid(model, array.key[entry], array.stamp[entry]):
            held.evicted = array.key[entry]
    array.used = 1
    array.key[entry] = global_key_of(number, size) if page & MAP_GLOBAL else key_of(number, size, pcid)
    array.page[entry] = page & (~((<uint64_t>1 << PAGE_SHIFT_OF(size)) - 1) | MAP_RIGHTS)
    array.stamp[entry] = model.flushes
    describe(array, entry, size, address, held)


# --- paging-structure caches (SDM vol. 3, 4.10.3 and 28.3.1) ----------------------------------------------------------------
cdef inline WalkEntry *cached(WalkCache *cache, uint64_t key, uint64_t since) noexcept nogil:
    cdef uint32_t index
    for index in range(cache.entries):
        if cache.entry[index].key == key and cache.entry[index].stamp >= since:
            return &cache.entry[index]
    return NULL


cdef inline void cache_entry(TlbModel *model, WalkCache *cache, uint64_t key, uint64_t since) noexcept nogil:
    """Enter what a walk has read, unless it is there already."""
    cdef WalkEntry *entry
    if cache.entries == 0 or cached(cache, key, since) != NULL:
        return
    entry = &cache.entry[cache.next]
    if model.undo_count < MOST_UNDONE:
        model.undo[model.undo_count].cache = cache
        model.undo[model.undo_count].before = entry[0]
        model.undo[model.undo_count].next = cache.next
        model.undo_count += 1
    entry.key = key
    entry.stamp = model.flushes
    cache.next = cache.next + 1 if cache.next + 1 < cache.entries else 0


cdef void undo_walk(Cpu *cpu) noexcept nogil:
    cdef TlbModel *model = cpu.tlb_model
    cdef uint32_t index
    while model.undo_count:
        model.undo_count -= 1
        index = model.undo_count
        model.undo[index].cache.next = model.undo[index].next
        model.undo[index].cache.entry[model.undo[index].next] = model.undo[index].before


cdef inline uint32_t nested_references(TlbModel *model, uint64_t address) noexcept nogil:
    """Of the walk through the nested tables for a guest-physical address."""
    cdef uint64_t since = model.nested_flushed
    cdef uint32_t level, start = NESTED_LEVELS
    if cached(&model.nested[1], VALID | address >> 12, since) != NULL:
        return 0
    for level in range(2, NESTED_LEVELS + 1):
        if cached(&model.nested[level], VALID | address >> (12 + 9 * (level - 1)), since) != NULL:
            start = level - 1
            break
    for level in range(1, start + 1):
        cache_entry(model, &model.nested[level], VALID | address >> (12 + 9 * (level - 1)), since)
    return start


cdef inline uint64_t tables_flushed(TlbModel *model, uint32_t pcid) noexcept nogil:
    """The last flush that the caches of linear addresses were subject to."""
    cdef uint64_t since = model.all_flushed
    if model.private_flushed > since:
        since = model.private_flushed
    if model.flushed[pcid] > since:
        since = model.flushed[pcid]
    return model.tables_flushed[pcid] if model.tables_flushed[pcid] > since else since


cdef inline uint64_t table_key(uint64_t address, uint32_t level, uint32_t depth, uint32_t pcid) noexcept nogil:
    """The key of an entry of this level; all addresses that it is used for share it."""
    return key_of((address >> (12 + (10 if depth == 2 else 9) * (level - 1))) & NUMBER, 0, pcid)


cdef uint32_t references_of_walk(Cpu *cpu, uint64_t address, uint64_t *places, uint32_t depth, uint32_t top,
                                 uint32_t last, uint64_t page, bint found) noexcept nogil:
    cdef TlbModel *model = cpu.tlb_model
    cdef uint32_t pcid = pcid_of(cpu), level, start = top, references = 0
    cdef uint64_t since = tables_flushed(model, pcid)
    cdef bint nested = cpu.controls & CTL_EPT != 0
    model.undo_count = 0
    # The deepest entry that is cached names the table with which the walk begins. Such an entry has the table's address
    # in the host's memory: nested paging has nothing to translate for it.
    for level in range(last + 1, top + 1):
        if cached(&model.tables[level], table_key(address, level, depth, pcid), since) != NULL:
            start = level - 1
            break
    level = start
    while level >= last and level:
        if nested and (level != start or start == top):
            references += nested_references(model, places[level])
        references += 1
        if cpu.caches != NULL:
            walk_reads(cpu, places[level])
        level -= 1
    if found:
        if nested:
            references += nested_references(model, page)
        for level in range(last + 1, start + 1):
            cache_entry(model, &model.tables[level], table_key(address, level, depth, pcid), since)
    return references


# --- invalidation -----------------------------------------------------------------------------------------------------------
cdef inline uint64_t another_flush(TlbModel *model) noexcept nogil:
    model.undo_count = 0
    model.flushes += 1
    return model.flushes


cdef void forget_all(Cpu *cpu) noexcept nogil:
    cdef uint32_t part, size
    cpu.tlb_model.all_flushed = another_flush(cpu.tlb_model)
    for part in range(<uint32_t>TLB_PARTS):
        for size in range(<uint32_t>PAGE_SIZES):
            cpu.tlb_model.arrays[part][size].used = 0


cdef void forget_private(Cpu *cpu) noexcept nogil:
    cpu.tlb_model.private_flushed = another_flush(cpu.tlb_model)


cdef void forget_pcid(Cpu *cpu, uint32_t pcid) noexcept nogil:
    cpu.tlb_model.flushed[pcid] = another_flush(cpu.tlb_model)


cdef void forget_nested(Cpu *cpu) noexcept nogil:
    cpu.tlb_model.nested_flushed = another_flush(cpu.tlb_model)


cdef void forget_page(Cpu *cpu, uint64_t address, uint32_t pcid, bint with_global) noexcept nogil:
    cdef TlbModel *model = cpu.tlb_model
    cdef uint32_t part, size, half
    cdef TlbArray *array
    cdef uint64_t slot
    model.tables_flushed[pcid] = another_flush(model)
    for part in range(<uint32_t>TLB_PARTS):
        for size in range(<uint32_t>PAGE_SIZES):
            array = &model.arrays[part][size]
            if not array.used:
                continue
            for half in range(<uint32_t>(2 if size == PAGE_2M and not cpu.cr4 & CR4_PAE else 1)):  # of 4 MiB
                slot = forget_entry(array, size, address ^ half * <uint64_t>0x200000, pcid, with_global)
                if part == TLB_OF_CODE and slot != NO_SLOT:
                    drop_jumps(cpu, <uint32_t>slot)


cdef inline uint64_t forget_entry(TlbArray *array, uint32_t size, uint64_t address, uint32_t pcid,
                                  bint with_global) noexcept nogil:
    """The number of the entry that is no more, or NO_SLOT."""
    cdef uint64_t number = number_of(address, size)
    cdef uint32_t first = first_way(array, number), entry
    for entry in range(first, first + array.ways):
        if (array.key[entry] == key_of(number, size, pcid)
                or with_global and array.key[entry] == global_key_of(number, size)):
            array.key[entry] = 0
            return array.first + entry
    return NO_SLOT


# --- sizes ------------------------------------------------------------------------------------------------------------------
SHARED = "shared"
PARTS = (
    (TLB_OF_DATA, ("data_4k", "data_2m", "data_1g")),
    (TLB_OF_CODE, ("code_4k", "code_2m", None)),
    (TLB_SECOND, ("second_4k", "second_2m", "second_1g")),
)
CACHES = ("pd_entries", "pdpt_entries", "pml4_entries")  # of levels 2, 3, 4


cdef uint32_t count(str name, object value, uint32_t most) except? 0xbad:
    if not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{name} is {value!r}, and has to be a whole number from 0 to {most}")
    return value


cdef int shape(TlbArray *array, str name, object sizes) except -1:
    """Entries and ways of one TLB."""
    entries, ways = sizes
    array.entries = count(f"{name}'s entries", entries, MOST_ENTRIES)
    array.ways = count(f"{name}'s ways", ways, MOST_ENTRIES)
    if array.entries and (array.ways == 0 or array.entries % array.ways):
        raise ValueError(f"{name}: {entries} entries are no whole number of sets of {ways}")
    array.sets = array.entries // array.ways if array.entries else 0
    return 0


cdef TlbModel *new_model(dict sizes, uint64_t second_hit_cost) except NULL:
    cdef TlbModel *model = <TlbModel *>room(1, sizeof(TlbModel))
    try:
        shape_all(model, sizes)
    except BaseException:
        free_model(model)
        raise
    model.flushes = 1  # no set is full as of then
    model.second_hit_cost = <uint32_t>second_hit_cost
    return model


cdef int shape_all(TlbModel *model, dict sizes) except -1:
    cdef uint32_t part, level, size
    for part, names in PARTS:
        for size, name in enumerate(names):
            if name is None:
                continue
            if size and sizes[name] == SHARED:
                model.arrays[part][size] = model.arrays[part][0]
                continue
            shape(&model.arrays[part][size], name, sizes[name])
            place(&model.arrays[part][size])
        if part != TLB_SECOND and model.arrays[part][0].entries == 0:
            raise ValueError(f"{names[0]}: a first level has entries for pages of 4 KiB")
    for level, name in enumerate(CACHES, 2):
        place_cache(&model.tables[level], name, sizes[name])
        place_cache(&model.nested[level], name, sizes[name])
    place_cache(&model.nested[1], "nested_entries", sizes["nested_entries"])
    size = model.arrays[TLB_OF_CODE][0].entries
    if model.arrays[TLB_OF_CODE][1].key != model.arrays[TLB_OF_CODE][0].key:
        model.arrays[TLB_OF_CODE][1].first = size
        size += model.arrays[TLB_OF_CODE][1].entries
    model.jump_words = <uint64_t *>room(size * (JCACHE_ENTRIES // 64), sizeof(uint64_t))
    return 0


cdef void *room(size_t items, size_t bytes_each) except NULL:
    cdef void *memory = calloc(items + 1, bytes_each)
    if memory == NULL:
        raise MemoryError("the host has no room for the model of the TLBs")
    return memory


cdef int place(TlbArray *array) except -1:
    array.mask = array.sets - 1 if array.sets & (array.sets - 1) == 0 else NO_MASK
    array.next = <uint32_t *>room(array.sets, sizeof(uint32_t))
    array.full = <uint64_t *>room(array.sets, sizeof(uint64_t))
    array.key = <uint64_t *>room(array.entries, sizeof(uint64_t))
    array.page = <uint64_t *>room(array.entries, sizeof(uint64_t))
    array.stamp = <uint64_t *>room(array.entries, sizeof(uint64_t))
    return 0


cdef int place_cache(WalkCache *cache, str name, object entries) except -1:
    cache.entries = count(name, entries, MOST_ENTRIES)
    cache.entry = <WalkEntry *>room(cache.entries, sizeof(WalkEntry))
    return 0


cdef void free_model(TlbModel *model) noexcept:
    cdef uint32_t part, size, level
    if model == NULL:
        return
    for part in range(<uint32_t>TLB_PARTS):
        for size in range(<uint32_t>PAGE_SIZES):
            if size == 0 or model.arrays[part][size].key != model.arrays[part][0].key:
                free(model.arrays[part][size].next)
                free(model.arrays[part][size].full)
                free(model.arrays[part][size].key)
                free(model.arrays[part][size].page)
                free(model.arrays[part][size].stamp)
    for level in range(<uint32_t>WALK_LEVELS):
        free(model.tables[level].entry)
        free(model.nested[level].entry)
    free(model.jump_words)
    free(model)
