# cython: language_level=3
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from hvmx.core.memory.cut cimport cut_after
from hvmx.core.pipeline.hot cimport charge
from hvmx.core.state.state cimport *

cdef enum:
    FETCHED_AHEAD = 1      # and not used since
    FROM_MEMORY = 2        # besides: it was in no level
    FLAG_BITS = 2
    FLAGS = 3
    PAGE_BITS = 12
    LARGEST_LINE = 1 << PAGE_BITS
    MOST_WAYS = 1 << 10
    MOST_LINES = 1 << 24
cdef uint64_t FIRST_DRAW = 1   # any number but 0


cdef inline uint64_t *set_of(CacheLevel *level, uint64_t index) noexcept nogil:
    return level.lines + (index % level.sets) * level.ways


cdef inline uint32_t way_of(CacheLevel *level, uint64_t *lines, uint64_t line) noexcept nogil:
    """The way of this set that has the line, or as many as there are."""
    cdef uint32_t way = 0
    while way < level.ways and lines[way] >> FLAG_BITS != line + 1:
        way += 1
    return way


cdef inline void put_first(uint64_t *lines, uint32_t way, uint64_t content) noexcept nogil:
    """In L1: into the place of the last used line; what was there and behind it, up to `way`, moves on."""
    while way:
        lines[way] = lines[way - 1]
        way -= 1
    lines[0] = content


# --- L2, L3 and memory ------------------------------------------------------------------------------------------------------
cdef inline uint64_t scattered(CacheModel *caches, uint64_t line) noexcept nogil:
    """The same line of the frame that backs the guest's: any function will do of which neighbours show no pattern."""
    cdef uint32_t in_page = PAGE_BITS - caches.line_shift
    cdef uint64_t frame = line >> in_page
    frame = (frame ^ frame >> 30) * <uint64_t>0xbf58476d1ce4e5b9  # the mixing function of splitmix64 (Steele et al. 2014)
    frame = (frame ^ frame >> 27) * <uint64_t>0x94d049bb133111eb
    frame ^= frame >> 31
    return <uint64_t><uint32_t>frame << in_page | line & ((<uint64_t>1 << in_page) - 1)


cdef inline void fill(CacheModel *caches, CacheLevel *level, uint64_t *lines, uint64_t content) noexcept nogil:
    cdef uint32_t way
    for way in range(level.ways):
        if lines[way] == 0:
            lines[way] = content
            return
    # Marsaglia's xorshift (2003).
    caches.draw ^= caches.draw << 13
    caches.draw ^= caches.draw >> 7
    caches.draw ^= caches.draw << 17
    lines[caches.draw % level.ways] = content


cdef uint32_t fetch(CacheModel *caches, uint64_t line) noexcept nogil:
    """The level beyond L1 that has the line; it is in all of them then."""
    cdef uint64_t index = scattered(caches, line), content = (line + 1) << FLAG_BITS
    cdef uint64_t *lines[CACHE_LEVELS]
    cdef CacheLevel *level
    cdef uint32_t found = 1, way
    while found < CACHE_LEVELS:
        level = &caches.levels[found]
        lines[found] = set_of(level, index)
        if way_of(level, lines[found], line) < level.ways:
            break
        found += 1
    way = found
    while way > 1:
        way -= 1
        fill(caches, &caches.levels[way], lines[way], content)
    return found


# --- the prefetcher ---------------------------------------------------------------------------------------------------------
cdef inline void fetch_ahead(CacheModel *caches, uint64_t line) noexcept nogil:
    cdef CacheLevel *first = &caches.levels[0]
    cdef uint64_t *lines = set_of(first, line)
    cdef uint64_t flags = FETCHED_AHEAD
    if way_of(first, lines, line) < first.ways:
        return
    if fetch(caches, line) == CACHE_LEVELS:
        flags |= FROM_MEMORY
    put_first(lines, first.ways - 1, (line + 1) << FLAG_BITS | flags)


cdef void follow(CacheModel *caches, uint64_t line) noexcept nogil:
    """After a miss, or the first use of a line that was fetched ahead."""
    cdef uint32_t stream
    for stream in range(<uint32_t>STREAMS):
        if caches.recent[stream] == line:  # the line before
            caches.recent[stream] = line + 1
            fetch_ahead(caches, line + 1)
            return
        if caches.recent[stream] == line + 2:
            caches.recent[stream] = line + 1
            if line:
                fetch_ahead(caches, line - 1)
            return
    caches.recent[caches.next_stream] = line + 1
    caches.next_stream = (caches.next_stream + 1) % STREAMS


# --- accesses ---------------------------------------------------------------------------------------------------------------
cdef inline void spend_on(Cpu *cpu, Op *op, int64_t cost) noexcept nogil:
    charge(cpu, CHARGE_CACHE, 1, cost >> ACCT_SHIFT)
    if op != NULL and cpu.acct >= 0:
        cut_after(cpu, op)  # the rest of the block may be more than what is left of the budget


cdef void access_other(Cpu *cpu, Op *op, CacheModel *caches, uint64_t line, bint write) noexcept nogil:
    """An access to a line that is not the last used one of its set in L1."""
    cdef CacheLevel *first = &caches.levels[0]
    cdef uint64_t *lines = set_of(first, line)
    cdef uint32_t way = way_of(first, lines, line), found
    cdef uint64_t content = (line + 1) << FLAG_BITS, flags
    if way < first.ways:
        flags = lines[way] & FLAGS
        put_first(lines, way, content)
        caches.hits[0] += 1
        if flags:
            caches.prefetched_hits += 1
            if flags & FROM_MEMORY:
                spend_on(cpu, op, caches.prefetched_cost)
            follow(caches, line)
        return
    found = fetch(caches, line)
    put_first(lines, first.ways - 1, content)
    caches.hits[found] += 1
    spend_on(cpu, op, caches.store_cost[found] if write else caches.load_cost[found])
    follow(caches, line)


cdef inline void access_one(Cpu *cpu, Op *op, CacheModel *caches, uint64_t line, bint write) noexcept nogil:
    if set_of(&caches.levels[0], line)[0] == (line + 1) << FLAG_BITS:
        caches.hits[0] += 1
    else:
        access_other(cpu, op, caches, line, write)


cdef void access_line(Cpu *cpu, Op *op, uint64_t address, uint32_t size, bint write) noexcept nogil:
    cdef CacheModel *caches = caches_of(cpu)
    cdef uint64_t line = address >> caches.line_shift, last = (address + size - 1) >> caches.line_shift
    access_one(cpu, op, caches, line, write)
    if last != line:
        access_one(cpu, op, caches, last, write)


cdef void walk_reads(Cpu *cpu, uint64_t address) noexcept nogil:
    """The price of the reference is that of a hit of L2: what lies beyond comes on top."""
    cdef CacheModel *caches = caches_of(cpu)
    cdef uint32_t found = fetch(caches, address >> caches.line_shift)
    caches.walk_hits[found] += 1
    charge(cpu, CHARGE_CACHE, 1, (caches.load_cost[found] - caches.load_cost[1]) >> ACCT_SHIFT)


# --- invalidation -----------------------------------------------------------------------------------------------------------
cdef void forget_line(Cpu *cpu, uint64_t address) noexcept nogil:
    cdef CacheModel *caches = caches_of(cpu)
    cdef CacheLevel *level
    cdef uint64_t line, index
    cdef uint64_t *lines
    cdef uint32_t number, way
    if caches == NULL:
        return
    line = address >> caches.line_shift
    for number in range(<uint32_t>CACHE_LEVELS):
        level = &caches.levels[number]
        index = scattered(caches, line) if number else line
        lines = set_of(level, index)
        way = way_of(level, lines, line)
        if way == level.ways:
            continue
        while way + 1 < level.ways:  # empty ways come last: L1 has the last used line first
            lines[way] = lines[way + 1]
            way += 1
        lines[way] = 0


cdef void forget_lines(Cpu *cpu) noexcept nogil:
    cdef CacheModel *caches = caches_of(cpu)
    cdef CacheLevel *level
    cdef uint32_t number
    if caches == NULL:
        return
    for number in range(<uint32_t>CACHE_LEVELS):
        level = &caches.levels[number]
        memset(level.lines, 0, <size_t>level.sets * level.ways * sizeof(uint64_t))
    memset(caches.recent, 0, sizeof(caches.recent))
    caches.next_stream = 0
    caches.draw = FIRST_DRAW


# --- sizes ------------------------------------------------------------------------------------------------------------------
cdef int shape(CacheLevel *level, uint32_t number, uint64_t size, uint64_t ways, uint64_t line) except -1:
    if not 1 <= ways <= MOST_WAYS or size == 0 or size % (ways * line) or size // line > MOST_LINES:
        raise ValueError(f"L{number}: {size} bytes are no whole number of sets of {ways} lines of {line}")
    level.ways = <uint32_t>ways
    level.sets = <uint32_t>(size // (ways * line))
    level.lines = <uint64_t *>calloc(size // line, sizeof(uint64_t))
    if level.lines == NULL:
        raise MemoryError("the host has no room for the model of the caches")
    return 0


cdef int shape_all(CacheModel *caches, levels, uint64_t line, uint64_t memory, uint64_t prefetched,
                   uint64_t overlapping) except -1:
    cdef uint32_t number
    if len(levels) != CACHE_LEVELS:
        raise ValueError(f"{len(levels)} levels of cache: there are {CACHE_LEVELS}")
    if not 8 <= line <= LARGEST_LINE or line & (line - 1):
        raise ValueError(f"lines of {line} bytes: it must be a power of 2, and 8 to {LARGEST_LINE}")
    if not overlapping:
        raise ValueError("no stores that overlap: a store alone is 1")
    while <uint64_t>1 << caches.line_shift < line:
        caches.line_shift += 1
    for number, (size, ways, beyond) in enumerate(levels):
        shape(&caches.levels[number], number + 1, size, ways, line)
        caches.load_cost[number] = <int64_t><uint64_t>beyond << ACCT_SHIFT
    caches.load_cost[CACHE_LEVELS] = <int64_t>memory << ACCT_SHIFT
    for number in range(<uint32_t>CACHE_LEVELS):
        if caches.load_cost[0] or caches.load_cost[number] > caches.load_cost[number + 1]:
            raise ValueError("a level of cache that is faster than the one before it")
    for number in range(<uint32_t>CACHE_LEVELS + 1):
        # Whole units: the low bits of Cpu.acct count instructions.
        caches.store_cost[number] = (caches.load_cost[number] >> ACCT_SHIFT) // <int64_t>overlapping << ACCT_SHIFT
    caches.prefetched_cost = <int64_t>prefetched << ACCT_SHIFT
    caches.draw = FIRST_DRAW
    return 0


cdef CacheModel *new_caches(levels, uint64_t line, uint64_t memory, uint64_t prefetched, uint64_t overlapping) except NULL:
    cdef CacheModel *caches = <CacheModel *>calloc(1, sizeof(CacheModel))
    if caches == NULL:
        raise MemoryError("the host has no room for the model of the caches")
    try:
        shape_all(caches, levels, line, memory, prefetched, overlapping)
    except BaseException:
        free_caches(caches)
        raise
    return caches


cdef void free_caches(CacheModel *caches) noexcept:
    cdef uint32_t number
    if caches == NULL:
        return
    for number in range(<uint32_t>CACHE_LEVELS):
        free(caches.levels[number].lines)
    free(caches)
