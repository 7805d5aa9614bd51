# cython: language_level=3
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memmove, memset

from hvmx.core.generated.families cimport (
    COST_BRANCH, COST_JUMP_INDIRECT, COST_LOAD, COST_LOAD_VECTOR, COST_STORE, COST_STORE_INDEXED,
    COST_STORE_VECTOR)
from hvmx.core.state.state cimport *

cdef extern from "times.h" nogil:
    uint32_t behind_front(const Pipeline *, uint32_t time)
    uint16_t held(const Pipeline *, uint32_t time)
    void settle(Pipeline *)
    uint32_t least_booked(const Pipeline *, uint32_t pipes)
    uint32_t book(Pipeline *, uint32_t pipe, uint32_t ready, uint32_t cycles)

cdef enum:
    SOON = 16                  # cycles: what is left of so little, when the front starts anew, is forgotten


cdef inline uint32_t later(uint32_t a, uint32_t b) noexcept nogil:
    return a if a > b else b


cdef inline void pass_cycles(Pipeline *s, const PipelineModel *m, uint32_t cycles) noexcept nogil:
    """The front moves on, and fetching gets ahead."""
    if cycles:
        s.front += cycles
        s.fetched = <uint8_t>(s.fetched + cycles if s.fetched + cycles < m.fetch_ahead else m.fetch_ahead)


cdef inline uint32_t take_pipe(Pipeline *s, const PipeUse *use, uint32_t ready) noexcept nogil:
    """Book the pipe of these that is booked least, as work is given to a pipe at dispatch; when it can begin."""
    return book(s, least_booked(s, use.pipes), ready, use.cycles)


cdef inline uint32_t take_pipes(Pipeline *s, const ClassTiming *k, uint32_t ready, uint32_t *all_begun) noexcept nogil:
    """Book all that a class uses; when the pipe of the first can begin, which the others are not before. `all_begun`
    becomes when all of them can, if that is later."""
    cdef uint32_t index, start = ready
    if k.use_count:
        start = take_pipe(s, &k.uses[0], ready)
    all_begun[0] = later(all_begun[0], start)
    for index in range(1, k.use_count):
        all_begun[0] = later(all_begun[0], take_pipe(s, &k.uses[index], start))
    return start


cdef inline uint32_t flags_ready(Pipeline *s, uint32_t which) noexcept nogil:
    return later(s.ready[READY_CARRY] if which & 1 else s.front, s.ready[READY_FLAGS] if which & 2 else s.front)


cdef inline uint32_t register_ready(Pipeline *s, uint32_t register) noexcept nogil:
    return s.ready[register] if register != READY_NONE else s.front


# --- memory -------------------------------------------------------------------------------------------------------------
cdef inline bint on_stack(uint32_t base) noexcept nogil:
    return base == READY_GENERAL + REG_RSP or base == READY_GENERAL + REG_RBP


cdef inline uint32_t store_to(const Pipeline *s, const Timing *t) noexcept nogil:
    """Which store was to this address expression; SEEN_STORES if none is known."""
    cdef uint32_t index
    cdef const SeenStore *store
    for index in range(SEEN_STORES):
        store = &s.stores[index]
        if not store.width:
            break
        if (store.disp == t.disp and store.base == t.base and store.index == t.index and store.scale == t.scale
                and store.segment == t.segment):
            return index
    return SEEN_STORES


cdef inline uint32_t forwarding(const PipelineModel *m, const Timing *t) noexcept nogil:
    if t.flags & TIMING_VECTOR:
        return m.forward_vector
    if not t.flags & TIMING_WHOLE:
        return m.forward_operand
    return m.forward_stack if on_stack(t.base) else m.forward


cdef inline uint32_t load(Pipeline *s, const Timing *t, const PipelineModel *m, uint32_t start) noexcept nogil:
    """When the value is ready of a load that starts then."""
    cdef uint32_t latency = m.load_vector if t.flags & TIMING_VECTOR else m.load
    cdef uint32_t forward = forwarding(m, t)
    cdef uint32_t index = store_to(s, t), forwarded
    if index == SEEN_STORES or s.stores[index].width < t.width:
        return start + latency
    forwarded = s.stores[index].forgotten + forward
    forwarded = forwarded - m.forward_slack if forwarded > m.forward_slack else 0
    if forward < latency:
        return later(s.front + forward, forwarded)  # renamed: neither address nor cache is waited for
    return later(start + latency, forwarded)


cdef inline void remember_store(Pipeline *s, const Timing *t, const PipelineModel *m, uint32_t ready) noexcept nogil:
    """In the place of an earlier store to the same address, or else of the oldest."""
    cdef SeenStore *store = &s.stores[0]
    cdef uint32_t index = store_to(s, t)
    if not t.width:
        return
    memmove(&s.stores[1], store, (index if index < SEEN_STORES else SEEN_STORES - 1) * sizeof(SeenStore))
    memset(store, 0, sizeof(SeenStore))
    store.disp = t.disp
    store.base = t.base
    store.index = t.index
    store.scale = t.scale
    store.segment = t.segment
    store.width = t.width
    store.forgotten = held(s, ready + m.forward_slack)


cdef inline void keep_stores(Pipeline *s, uint32_t count) noexcept nogil:
    """Only the first stores are left."""
    while count < SEEN_STORES and s.stores[count].width:
        memset(&s.stores[count], 0, sizeof(SeenStore))
        count += 1


cdef inline void shift_stores(Pipeline *s, uint32_t register, int32_t shift) noexcept nogil:
    """A constant has been added to a register: what is stored by way of it is found at other displacements."""
    cdef uint32_t index
    cdef SeenStore *store
    for index in range(SEEN_STORES):
        store = &s.stores[index]
        if not store.width:
            return
        if store.base == register:
            store.disp -= shift
        if store.index == register:
            store.disp -= shift << store.scale


cdef inline void forget_stores(Pipeline *s, uint32_t register) noexcept nogil:
    """A register has another value: no load finds by way of it what was stored before."""
    cdef uint32_t index, kept = 0
    for index in range(SEEN_STORES):
        if not s.stores[index].width:
            break
        if s.stores[index].base != register and s.stores[index].index != register:
            if kept != index:
                s.stores[kept] = s.stores[index]
            kept += 1
    keep_stores(s, kept)


cdef inline void forget_old_stores(Pipeline *s, const PipelineModel *m) noexcept nogil:
    """A store that no load waits for any more is forgotten, unless loads are renamed to it: there are fewer states."""
    cdef uint32_t index, kept = 0
    cdef SeenStore *store
    for index in range(SEEN_STORES):
        store = &s.stores[index]
        if not store.width:
            break
        if store.forgotten > s.front or (m.forward_stack if on_stack(store.base) else m.forward) < m.load:
            if kept != index:
                s.stores[kept] = store[0]
            kept += 1
    keep_stores(s, kept)


cdef inline const ClassTiming *load_class(const Timing *t, const PipelineModel *m) noexcept nogil:
    return &m.classes[COST_LOAD_VECTOR if t.flags & TIMING_VECTOR else COST_LOAD]


cdef inline const ClassTiming *store_class(const Timing *t, const PipelineModel *m) noexcept nogil:
    if t.flags & TIMING_VECTOR:
        return &m.classes[COST_STORE_VECTOR]
    return &m.classes[COST_STORE if t.index == READY_NONE or t.flags & TIMING_LOAD else COST_STORE_INDEXED]


cdef inline uint32_t store_slots(const Timing *t, const PipelineModel *m) noexcept nogil:
    """Slots of dispatch that a store takes besides the instruction, which is one itself where it only moves."""
    cdef uint32_t plain = m.classes[COST_STORE].slots
    cdef uint32_t slots = plain if t.flags & TIMING_VECTOR else store_class(t, m).slots
    return slots - plain if t.flags & TIMING_ONLY_MOVES else slots


cdef inline uint32_t keep_stores_away(Pipeline *s, const PipelineModel *m, uint32_t ready) noexcept nogil:
    """When a locked access can begin: behind the stores before it, and those behind it wait until it is complete."""
    cdef const ClassTiming *k = &m.classes[COST_STORE]
    cdef uint32_t index, pipes = k.uses[k.use_count - 1].pipes if k.use_count else 0
    for index in range(PIPES):
        if pipes >> index & 1:
            ready = later(ready, s.booked_until[index])
    for index in range(PIPES):
        if pipes >> index & 1:
            book(s, index, ready, m.load + m.locked)
    return ready


# --- one instruction ----------------------------------------------------------------------------------------------------
cdef inline void push_x87(Pipeline *s, int32_t by) noexcept nogil:
    cdef uint16_t *registers = &s.ready[READY_X87]
    while by > 0:
        memmove(registers + 1, registers, 7 * sizeof(uint16_t))
        by -= 1
    while by < 0:
        memmove(registers, registers + 1, 7 * sizeof(uint16_t))
        registers[7] = 0
        by += 1


cdef inline uint32_t operands_ready(Pipeline *s, const Timing *t) noexcept nogil:
    cdef uint32_t index, ready = later(s.front, flags_ready(s, t.flags_read))
    for index in range(t.read_count):
        ready = later(ready, s.ready[t.reads[index]])
    return ready


cdef inline uint32_t execute(Pipeline *s, const Timing *t, const PipelineModel *m, uint32_t ready,
                             uint32_t *all_begun) noexcept nogil:
    """When the results are ready of an operation whose operands are."""
    cdef const ClassTiming *k = &m.classes[t.cost]
    if t.flags & TIMING_ZEROES:
        return s.front
    if t.flags & TIMING_ELIMINATED or t.flags & TIMING_ONLY_MOVES and t.flags & (TIMING_LOAD | TIMING_STORE):
        return ready
    return take_pipes(s, &m.classes[COST_BRANCH] if t.flags & TIMING_FUSED else k, ready, all_begun) + k.latency


cdef inline void write_results(Pipeline *s, const Timing *t, uint32_t ready) noexcept nogil:
    cdef uint32_t index, register
    cdef uint16_t first
    if t.flags & TIMING_EXCHANGES:
        first = s.ready[t.writes[0]]
        s.ready[t.writes[0]] = s.ready[t.writes[1]]
        s.ready[t.writes[1]] = first
        return
    if t.x87_push > 0:
        push_x87(s, t.x87_push)
    for index in range(t.write_count):
        register = t.writes[index]
        s.ready[register] = held(s, ready)
        if index == 0 and t.flags & TIMING_SHIFTS:
            shift_stores(s, register, t.shift)
        elif register < READY_XMM:
            forget_stores(s, register)
    if t.x87_push < 0:
        push_x87(s, t.x87_push)
    if t.flags_written & 1:
        s.ready[READY_CARRY] = held(s, ready)
    if t.flags_written & 2:
        s.ready[READY_FLAGS] = held(s, ready)


cdef inline uint32_t under_way(const Pipeline *s) noexcept nogil:
    """Cycles behind the front until all registers are ready, and no pipe has work left."""
    cdef uint32_t index, cycles = 0
    for index in range(READY_COUNT):
        cycles = later(cycles, s.ready[index])
    for index in range(PIPES):
        cycles = later(cycles, later(s.booked_until[index], s.booked[index].work))
    return behind_front(s, cycles)


cdef uint32_t drain(Pipeline *s, const PipelineModel *m) noexcept nogil:
    cdef uint32_t index, cycles = later(1 if s.slot else 0, under_way(s)), units, left
    for index in range(SEEN_STORES):
        left = behind_front(s, s.stores[index].forgotten)
        cycles = later(cycles, left - m.forward_slack if left > m.forward_slack else 0)
    units = cycles * CYCLE_FRACTION - s.slot * m.slot_units
    memset(s, 0, sizeof(Pipeline))
    return units


cdef inline uint32_t alone(const Timing *t, const PipelineModel *m) noexcept nogil:
    """What an instruction takes with which nothing overlaps, in units of 1/CYCLE_FRACTION cycle."""
    cdef uint32_t units = m.classes[t.cost].alone
    if t.flags & TIMING_LOAD:
        units += m.alone_load
    if t.flags & TIMING_STORE:
        units += m.alone_store
    if t.flags & TIMING_LOCKED:
        units += m.alone_locked
    return units


cdef inline uint32_t fetch_past(Pipeline *s, const Timing *t, const PipelineModel *m, bint taken) noexcept nogil:
    """Cycles that dispatch waits for fetching to go on behind a branch."""
    cdef uint32_t cycles = m.call if t.flags & TIMING_STACK else m.indirect if t.cost == COST_JUMP_INDIRECT else m.taken_branch
    cdef uint32_t ahead = s.fetched
    if not taken:
        return 0
    s.fetched = <uint8_t>(ahead - cycles if ahead > cycles else 0)
    return cycles - ahead if cycles > ahead else 0


cdef inline uint32_t fill_window(Pipeline *s, const PipelineModel *m, uint32_t slots, uint32_t vectors,
                                 uint32_t ready) noexcept nogil:
    """Cycles that dispatch waits for the oldest in the window, an instruction being complete then.

    As long as all will be before so much could have been dispatched, what is in the window need not be known: before so many
    vector registers could have been taken, where any are."""
    cdef uint32_t wait = 0
    if later(s.complete[0], ready) <= s.front + (m.vector_cycles if vectors or s.filled_vectors else m.window_cycles):
        if s.complete[0] > s.front or s.filled or s.filled_vectors:
            memset(s.complete, 0, sizeof(s.complete))
            s.filled = s.filled_vectors = 0
        return 0
    s.complete[0] = held(s, later(s.complete[0], ready))
    s.filled += <uint8_t>slots
    s.filled_vectors += <uint8_t>vectors
    if s.filled >= m.window // WINDOW_PARTS or s.filled_vectors >= m.vectors // WINDOW_PARTS and s.filled_vectors:
        s.filled = s.filled_vectors = 0
        wait = behind_front(s, s.complete[WINDOW_PARTS - 1])
        memmove(&s.complete[1], &s.complete[0], (WINDOW_PARTS - 1) * sizeof(s.complete[0]))
    return later(wait, behind_front(s, s.complete[0] - MOST_BEHIND) if s.complete[0] > MOST_BEHIND else 0)


cdef inline void forget_details(Pipeline *s) noexcept nogil:
    """At a call or return, where fetching is the limit, what is under way is known in steps of 4 cycles, and not by which cycles
    pipes are taken: so functions are entered in few states."""
    cdef uint32_t index
    settle(s)
    for index in range(READY_COUNT):
        s.ready[index] = s.ready[index] + 1 & ~3
    for index in range(PIPES):
        s.booked[index].work = s.booked[index].work + 1 & ~3
        if s.booked_until[index] <= SOON:
            s.booked[index].cycles = 0
            s.booked_until[index] = 0
    memset(&s.stores[1], 0, (SEEN_STORES - 1) * sizeof(SeenStore))
    s.stores[0].forgotten = s.stores[0].forgotten + 1 & ~3
    s.fuses = 0


cdef inline uint32_t dispatch(Pipeline *s, const Timing *t, const PipelineModel *m, uint32_t course, uint32_t slots,
                              uint32_t ready) noexcept nogil:
    """Moves the front over an instruction of so many micro-operations that is complete at `ready`; as step()."""
    cdef bint taken = t.flags & TIMING_TAKEN or course & COURSE_TAKEN
    cdef uint32_t slot = s.slot, cycles, more, fetching = 0
    cycles = (slot + slots) // m.width if slot + slots >= m.width else 0
    s.slot = <uint8_t>(slot + slots - cycles * m.width)
    pass_cycles(s, m, cycles)
    if course & COURSE_MISPREDICTED:
        more = behind_front(s, ready) + m.misprediction
    else:
        fetching = fetch_past(s, t, m, taken)
        more = later(fetching, fill_window(s, m, slots, t.vectors, ready))
    if more:
        pass_cycles(s, m, more)
        s.slot = 0
        cycles += more
        s.fetched = <uint8_t>(s.fetched - fetching if s.fetched > fetching else 0)
    if course & COURSE_MISPREDICTED:
        s.fetched = 0
        if later(behind_front(s, s.complete[0]), under_way(s)) <= SOON:
            memset(s, 0, sizeof(Pipeline))
    elif t.flags & TIMING_STACK and taken:
        forget_details(s)
    return cycles * CYCLE_FRACTION + s.slot * m.slot_units - slot * m.slot_units


cdef uint32_t step(Pipeline *s, const Timing *t, const PipelineModel *m, uint32_t course) noexcept nogil:
    cdef const ClassTiming *k = &m.classes[t.cost]
    cdef uint32_t ready, slots, address, units, all_begun = 0
    cdef bint fused = s.fuses and t.flags & TIMING_CONDITIONAL
    if m.window == 0:  # nothing overlaps: the state stays empty
        return later(1, m.repeat_start[t.string]) if t.flags & TIMING_REPEATED else alone(t, m)
    if t.flags & TIMING_REPEATED:
        return drain(s, m) + later(1, m.repeat_start[t.string])
    if k.alone:
        return drain(s, m) + alone(t, m)
    slots = 0 if fused else k.slots
    ready = operands_ready(s, t)
    address = later(s.front, later(register_ready(s, t.base), register_ready(s, t.index)))
    if t.flags & TIMING_STACK:
        if t.shift < 0:
            shift_stores(s, READY_GENERAL + REG_RSP, t.shift)
        address = later(address, take_pipes(s, k, ready, &all_begun))
    elif t.flags & TIMING_LOAD:
        address = take_pipes(s, load_class(t, m), address, &all_begun)
        if not t.flags & TIMING_ONLY_MOVES:
            slots += m.classes[COST_LOAD].slots
    if t.flags & TIMING_LOCKED:
        address = keep_stores_away(s, m, later(ready, address))
    if t.flags & TIMING_LOAD:
        ready = later(ready, load(s, t, m, address))
    if not (fused or t.flags & TIMING_STACK):
        ready = execute(s, t, m, ready, &all_begun) + (m.locked if t.flags & TIMING_LOCKED else 0)
    write_results(s, t, ready)
    if t.flags & TIMING_STORE:
        ready = later(ready, address)
        if not t.flags & TIMING_STACK:
            if not t.flags & TIMING_LOCKED:
                take_pipes(s, store_class(t, m), address, &all_begun)
            slots += store_slots(t, m)
        remember_store(s, t, m, ready)
    if t.flags & TIMING_STACK and t.shift > 0:
        shift_stores(s, READY_GENERAL + REG_RSP, t.shift)
    s.fuses = t.flags & TIMING_FUSES != 0
    units = dispatch(s, t, m, course, slots, later(ready, all_begun))
    forget_old_stores(s, m)
    if s.front > FAR_FRONT:
        settle(s)
    return units


cdef void settle_pipeline(Pipeline *s) noexcept nogil:
    settle(s)


cdef uint32_t element_time(const Timing *t, const PipelineModel *m, bint downwards) noexcept nogil:
    cdef uint32_t width = 0 if t.width == 1 else 1 if t.width == 2 else 2 if t.width == 4 else 3
    return m.repeat_element[t.string][downwards][width]


cdef uint32_t longest_step(const Timing *t, const PipelineModel *m) noexcept nogil:
    cdef const ClassTiming *k = &m.classes[t.cost]
    cdef uint32_t index, cycles = 2 + k.latency + k.slots
    if t.flags & TIMING_REPEATED:
        return later(1, m.repeat_start[t.string]) + later(element_time(t, m, False), element_time(t, m, True))
    if k.alone:
        return alone(t, m)
    if t.flags & TIMING_LOCKED:
        cycles += 2 * (m.load + m.locked)
    for index in range(k.use_count):
        cycles += k.uses[index].cycles
    if t.flags & TIMING_LOAD:
        cycles += later(m.load, m.load_vector) + later(m.forward_operand, m.forward_vector) + m.classes[COST_LOAD].slots
    if t.flags & TIMING_STORE:
        cycles += later(m.classes[COST_STORE].slots, m.classes[COST_STORE_INDEXED].slots) + 2
    if t.flags & TIMING_CONDITIONAL:
        cycles += m.misprediction
    return cycles * CYCLE_FRACTION
