# cython: language_level=3
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from hvmx.core.state.state cimport *

_NAMES = ("front end", "dependency", "misprediction", "serial", "string", "data TLB", "code TLB", "cache", "events", "exits")

cdef enum:
    ROW_BITS = 16
    ROWS_LOOKED_AT = 8         # of those where a block may stand
    CLASSES = 256              # as in PipelineModel

cdef struct Row:
    uint64_t ip                # linear
    uint32_t mode              # MODE_WIDTH and MODE_USER of it
    uint32_t used
    uint64_t instructions
    int64_t total              # the sum of `units`
    int64_t units[BOUNDS]

cdef struct Hot:
    uint64_t begin             # what time() said when this began
    uint64_t halted            # Cpu.halted_time then
    uint64_t known_time, known_instructions # up to where all is in the table
    uint64_t ip                # of the block to which time is charged that no path is for
    uint32_t mode
    Row others
    Charged classes[CLASSES]   # instructions by cost class, but for mispredicted branches
    Charged mispredicted
    Row rows[1 << ROW_BITS]
    Split splits[1 << HOT_PATH_BITS]


cdef inline Hot *hot_of(Cpu *cpu) noexcept nogil:
    return <Hot *>cpu.hot


cdef inline uint64_t time_at_work(Cpu *cpu) noexcept nogil:
    """All guest time but that spent waiting, in units of 1/CYCLE_FRACTION cycle."""
    return guest_time(cpu) - cpu.halted_time


cdef inline uint64_t instructions_now(Cpu *cpu) noexcept nogil:
    return cpu.instructions + (<uint64_t>(cpu.acct - cpu.acct_start) & ACCT_INSTR_MASK)


cdef int begin_hot(Cpu *cpu) except -1:
    cdef Hot *hot
    free_hot(cpu)
    hot = <Hot *>calloc(1, sizeof(Hot))
    if hot == NULL:
        raise MemoryError("the host has no room for a table of blocks")
    hot.begin = hot.known_time = time_at_work(cpu)
    hot.halted = cpu.halted_time
    hot.known_instructions = instructions_now(cpu)
    cpu.hot = hot
    return 0


cdef void free_hot(Cpu *cpu) noexcept nogil:
    free(cpu.hot)
    cpu.hot = NULL


cdef Split *split_of_path(Cpu *cpu, uint64_t place) noexcept nogil:
    return &hot_of(cpu).splits[place]


# --- what holds a step --------------------------------------------------------------------------------------------------
cdef extern from *:
    int __builtin_popcount(unsigned int) nogil


cdef inline uint32_t queued(const Pipeline *s, uint32_t pipe) noexcept nogil:
    """For how many cycles a pipe has work, but for a gap or two: where it is booked with gaps, what it does waits for others."""
    cdef uint32_t work = s.booked[pipe].work
    if s.booked_until[pipe] > work and __builtin_popcount(s.booked[pipe].cycles) >= BOOKED_CYCLES - 2:
        return s.booked_until[pipe]
    return work


cdef void split_step(Split *split, uint32_t index, const Pipeline *s, const Timing *t, const PipelineModel *m, bint mispredicted,
                     uint32_t units) noexcept nogil:
    """When dispatch is limited by what comes behind it, completion falls behind the front until the window is full, and
    stays there; when the front end is the limit, completion follows at the distance of some latencies. So which of the two
    it is shows in the state: is the latest completion, or the queue of a pipe, more than half the window behind?"""
    cdef uint32_t latest = 0, pipes = 0, count = 0, each
    split.steps[index] = units
    split.mispredicted = mispredicted
    if mispredicted:
        split.units[BOUND_MISPREDICTION] += units
        return
    if t.flags & TIMING_REPEATED:
        split.units[BOUND_STRING] += units
        return
    if m.classes[t.cost].alone:
        split.units[BOUND_SERIAL] += units
        return
    for index in range(PIPES):
        if queued(s, index) * 2 > m.window_cycles:
            pipes |= <uint32_t>1 << index
            count += 1
    if pipes:
        each = units // count
        units -= each * count
        for index in range(PIPES):
            if pipes >> index & 1:
                split.units[BOUND_PIPES + index] += each + units
                units = 0
        return
    for index in range(READY_COUNT):
        if s.ready[index] > latest:
            latest = s.ready[index]
    split.units[BOUND_DEPENDENCY if latest * 2 > m.window_cycles else BOUND_FRONT_END] += units


# --- the table ----------------------------------------------------------------------------------------------------------
cdef void add_row(Row *to, const Row *row) noexcept nogil:
    cdef uint32_t index
    to.instructions += row.instructions
    to.total += row.total
    for index in range(BOUNDS):
        to.units[index] += row.units[index]


cdef Row *row_of(Hot *hot, uint64_t ip, uint32_t mode) noexcept nogil:
    cdef uint64_t hash = (ip ^ <uint64_t>mode << 56) * <uint64_t>0x9e3779b97f4a7c15
    cdef uint64_t at = hash >> (64 - ROW_BITS)
    cdef uint32_t index
    cdef Row *row
    cdef Row *least = NULL
    for index in range(ROWS_LOOKED_AT):
        row = &hot.rows[at + index & ((1 << ROW_BITS) - 1)]
        if row.ip == ip and row.mode == mode and row.used:
            return row
        if not row.used:
            least = row
            break
        if least == NULL or row.total < least.total:
            least = row
    if least.used:
        add_row(&hot.others, least)
        memset(least, 0, sizeof(Row))
    least.ip = ip
    least.mode = mode
    least.used = 1
    return least


cdef inline void be_at(Cpu *cpu, Hot *hot, uint64_t ip, uint32_t mode) noexcept nogil:
    hot.ip = ip + cpu.cs_base[mode >> MODE_CS_ID_SHIFT]
    if mode & MODE_WIDTH != MODE_64:
        hot.ip = <uint32_t>hot.ip
    hot.mode = mode & (MODE_WIDTH | MODE_USER)


cdef inline Row *present_row(Hot *hot) noexcept nogil:
    return row_of(hot, hot.ip, hot.mode)


cdef void note_rest(Cpu *cpu, Hot *hot) noexcept nogil:
    """Time that passed without being charged comes from the handlers of exits and hypercalls. What Xen takes back is the
    price of an exception that it did not deliver after all."""
    cdef uint64_t time = time_at_work(cpu), instructions = instructions_now(cpu)
    cdef int64_t more = <int64_t>(time - hot.known_time)
    cdef Row *row
    if more or instructions != hot.known_instructions:
        row = present_row(hot)
        row.instructions += instructions - hot.known_instructions
        row.total += more
        row.units[BOUND_EXITS if more > 0 else BOUND_EVENTS] += more
        hot.known_time = time
        hot.known_instructions = instructions


cdef void note_place(Cpu *cpu, Op *op) noexcept nogil:
    cdef Block *block = block_of(op)
    note_rest(cpu, hot_of(cpu))
    be_at(cpu, hot_of(cpu), block.ip, block.mode)


cdef void note_path(Cpu *cpu, Op *entry, const Split *split, int64_t cost, int64_t times) noexcept nogil:
    cdef Hot *hot = hot_of(cpu)
    cdef int64_t instructions = times * (cost & ACCT_INSTR_MASK), total = times * (cost >> ACCT_SHIFT)
    cdef uint32_t index, count = <uint32_t>(cost & ACCT_INSTR_MASK)
    cdef Charged *by_class
    cdef Row *row
    note_place(cpu, entry)
    for index in range(count):
        by_class = &hot.classes[block_of(entry).timings[entry.number + index].cost]
        if split.mispredicted and index == count - 1:
            by_class = &hot.mispredicted
        by_class.count += times
        by_class.units += times * <int64_t>split.steps[index]
    row = present_row(hot)
    for index in range(BOUNDS):
        row.units[index] += times * <int64_t>split.units[index]
    row.total += total
    row.instructions += <uint64_t>instructions
    hot.known_time += <uint64_t>total
    hot.known_instructions += <uint64_t>instructions


cdef inline uint32_t bound_by(uint32_t kind) noexcept nogil:
    """What holds the guest when time is charged."""
    if kind == CHARGE_DATA_WALK or kind == CHARGE_DATA_TLB_HIT:
        return BOUND_DATA_TLB
    if kind == CHARGE_CODE_WALK or kind == CHARGE_CODE_TLB_HIT:
        return BOUND_CODE_TLB
    if kind == CHARGE_CACHE:
        return BOUND_CACHE
    if kind == CHARGE_STRING:
        return BOUND_STRING
    if kind == CHARGE_DRAIN:
        return BOUND_SERIAL
    return BOUND_EVENTS if kind == CHARGE_EXCEPTION or kind == CHARGE_INTERRUPT else BOUND_EXITS


cdef void note_charge(Cpu *cpu, uint32_t kind, int64_t units) noexcept nogil:
    cdef Hot *hot = hot_of(cpu)
    cdef uint32_t bound = bound_by(kind)
    cdef Row *row
    hot.known_time += <uint64_t>units
    if cpu.node.entry != NULL:
        note_place(cpu, cpu.node.entry)
    elif bound == BOUND_CODE_TLB:
        note_rest(cpu, hot)
        be_at(cpu, hot, cpu.rip, cpu.mode)  # the block that is fetched
    row = present_row(hot)
    row.total += units
    row.units[bound] += units


# --- for Python ---------------------------------------------------------------------------------------------------------
cdef tuple by_name(const Row *row):
    cdef uint32_t index
    return (row.instructions, {name: row.units[index] for index, name in enumerate(_NAMES) if row.units[index]},
            [row.units[BOUND_PIPES + index] for index in range(PIPES)])


cdef tuple time_by_class(Cpu *cpu):
    """(count, units) by number of the class, of those that came; and of mispredicted branches, whatever their class."""
    cdef Hot *hot = hot_of(cpu)
    cdef uint32_t number
    return ({number: (hot.classes[number].count, hot.classes[number].units) for number in range(<uint32_t>CLASSES)
             if hot.classes[number].count}, (hot.mispredicted.count, hot.mispredicted.units))


cdef dict hot_blocks(Cpu *cpu):
    cdef Hot *hot = hot_of(cpu)
    cdef uint32_t index
    cdef list blocks = []
    note_rest(cpu, hot)
    for index in range(1 << ROW_BITS):
        if hot.rows[index].used:
            blocks.append((hot.rows[index].ip, 16 << (hot.rows[index].mode & MODE_WIDTH),
                           hot.rows[index].mode & MODE_USER != 0, *by_name(&hot.rows[index])))
    return {"blocks": blocks, "others": by_name(&hot.others), "waiting": cpu.halted_time - hot.halted,
            "total": hot.known_time - hot.begin + cpu.halted_time - hot.halted}
