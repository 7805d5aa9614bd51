# cython: language_level=3
from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.string cimport memmove, memset

from hvmx.core.generated.families cimport COST_LOAD, COST_LOAD_VECTOR, COST_STORE, COST_STORE_VECTOR
from hvmx.core.state.state cimport *

cdef extern from "shorten_times.h" nogil:
    void shorten_times(Pipeline *, uint8_t by)

cdef enum:
    MOST = 255                 # cycles behind the front that the state can hold; PipelineModel.window is less


cdef inline uint8_t held(uint32_t cycles) noexcept nogil:
    return <uint8_t>(cycles if cycles < MOST else MOST)


cdef inline void pass_cycles(Pipeline *s, uint32_t cycles) noexcept nogil:
    """The front moves on: all times behind it become shorter."""
    if cycles:
        s.taken = 0
        shorten_times(s, held(cycles))


cdef inline uint32_t later(uint32_t a, uint32_t b) noexcept nogil:
    return a if a > b else b


cdef inline uint32_t queue(Pipeline *s, uint32_t pipes, uint32_t cycles) noexcept nogil:
    """Queue work for the pipe of these that has the least; how much it had."""
    cdef uint32_t index, best = 0, least = MOST + 1
    for index in range(PIPES):
        if pipes >> index & 1 and s.busy[index] < least:
            best = index
            least = s.busy[index]
    if least > MOST:
        return 0               # it needs none
    s.busy[best] = held(least + cycles)
    return least


cdef inline uint32_t queue_uses(Pipeline *s, const ClassTiming *k, uint32_t *all_begun) noexcept nogil:
    """Queue work for all that a class uses; when the pipe of the first is free. `all_begun` becomes when all of them are, if
    that is later."""
    cdef uint32_t index, start = 0, free
    for index in range(k.use_count):
        free = queue(s, k.uses[index].pipes, k.uses[index].cycles)
        if index == 0:
            start = free
        all_begun[0] = later(all_begun[0], free)
    return start


cdef inline uint32_t flags_ready(Pipeline *s, uint32_t which) noexcept nogil:
    return later(s.ready[READY_CARRY] if which & 1 else 0, s.ready[READY_FLAGS] if which & 2 else 0)


cdef inline uint32_t register_ready(Pipeline *s, uint32_t register) noexcept nogil:
    return s.ready[register] if register != READY_NONE else 0


# --- memory -------------------------------------------------------------------------------------------------------------
cdef inline bint on_stack(uint32_t base) noexcept nogil:
    return base == READY_GENERAL + REG_RSP or base == READY_GENERAL + REG_RBP


cdef inline SeenStore *store_seen(Pipeline *s, const Timing *t) noexcept nogil:
    """The last store to this address expression, if it wrote all that is loaded; NULL if there is none."""
    cdef uint32_t index
    cdef SeenStore *store
    for index in range(SEEN_STORES):
        store = &s.stores[index]
        if (store.width and store.disp == t.disp and store.base == t.base and store.index == t.index
                and store.scale == t.scale and store.segment == t.segment):
            return store if store.width >= t.width else NULL
    return NULL


cdef inline uint32_t forwarding(const PipelineModel *m, uint32_t base, bint vector) noexcept nogil:
    return m.forward_vector if vector else m.forward_stack if on_stack(base) else m.forward


cdef inline uint32_t load(Pipeline *s, const Timing *t, const PipelineModel *m, uint32_t pipe_free) noexcept nogil:
    """When the loaded value is ready."""
    cdef bint vector = t.flags & TIMING_VECTOR != 0
    cdef uint32_t latency = m.load_vector if vector else m.load
    cdef uint32_t start = later(pipe_free, later(register_ready(s, t.base), register_ready(s, t.index)))
    cdef SeenStore *store = store_seen(s, t)
    cdef uint32_t forward = forwarding(m, t.base, vector)
    if store == NULL:
        return start + latency
    if forward < latency:
        return store.ready + forward  # renamed: neither address nor cache is waited for
    return later(start + latency, store.ready + forward)


cdef inline void remember_store(Pipeline *s, const Timing *t, uint32_t ready) noexcept nogil:
    cdef SeenStore *store = &s.stores[0]
    memmove(&s.stores[1], store, (SEEN_STORES - 1) * sizeof(SeenStore))
    memset(store, 0, sizeof(SeenStore))
    store.disp = t.disp
    store.base = t.base
    store.index = t.index
    store.scale = t.scale
    store.segment = t.segment
    store.width = t.width
    store.ready = held(ready)


cdef inline void shift_stores(Pipeline *s, uint32_t register, int32_t shift) noexcept nogil:
    """A constant has been added to a register: what is stored by way of it is found at other displacements."""
    cdef uint32_t index
    cdef SeenStore *store
    for index in range(SEEN_STORES):
        store = &s.stores[index]
        if store.width and store.base == register:
            store.disp -= shift
        if store.width and store.index == register:
            store.disp -= shift << store.scale


cdef inline void forget_stores(Pipeline *s, uint32_t register) noexcept nogil:
    """A register has another value: no load finds by way of it what was stored before."""
    cdef uint32_t index, kept = 0
    for index in range(SEEN_STORES):
        if s.stores[index].width and s.stores[index].base != register and s.stores[index].index != register:
            if kept != index:
                s.stores[kept] = s.stores[index]
            kept += 1
    memset(&s.stores[kept], 0, (SEEN_STORES - kept) * sizeof(SeenStore))


cdef inline void forget_old_stores(Pipeline *s, const PipelineModel *m) noexcept nogil:
    """Where a load does not wait for the store's data any more, the store is forgotten: there are fewer states."""
    cdef uint32_t index, kept = 0
    cdef SeenStore *store
    for index in range(SEEN_STORES):
        store = &s.stores[index]
        if store.width and (store.ready + later(m.forward, m.forward_vector) > m.load
                            or forwarding(m, store.base, False) < m.load):
            if kept != index:
                s.stores[kept] = s.stores[index]
            kept += 1
    memset(&s.stores[kept], 0, (SEEN_STORES - kept) * sizeof(SeenStore))


cdef inline const ClassTiming *load_class(const Timing *t, const PipelineModel *m) noexcept nogil:
    return &m.classes[COST_LOAD_VECTOR if t.flags & TIMING_VECTOR else COST_LOAD]


# --- one instruction ----------------------------------------------------------------------------------------------------
cdef inline void push_x87(Pipeline *s, int32_t by) noexcept nogil:
    cdef uint8_t *registers = &s.ready[READY_X87]
    while by > 0:
        memmove(registers + 1, registers, 7)
        by -= 1
    while by < 0:
        memmove(registers, registers + 1, 7)
        registers[7] = 0
        by += 1


cdef inline uint32_t operands_ready(Pipeline *s, const Timing *t) noexcept nogil:
    cdef uint32_t index, ready = flags_ready(s, t.flags_read)
    for index in range(t.read_count):
        ready = later(ready, s.ready[t.reads[index]])
    return ready


cdef inline uint32_t execute(Pipeline *s, const Timing *t, const PipelineModel *m, uint32_t ready, uint32_t *all_begun) noexcept nogil:
    """When the results are ready of an operation whose operands are."""
    cdef const ClassTiming *k = &m.classes[t.cost]
    if t.flags & TIMING_ZEROES:
        return 0
    if t.flags & TIMING_ELIMINATED or t.flags & TIMING_ONLY_MOVES and t.flags & (TIMING_LOAD | TIMING_STORE):
        return ready
    return later(ready, queue_uses(s, k, all_begun)) + k.latency


cdef inline void write_results(Pipeline *s, const Timing *t, uint32_t ready) noexcept nogil:
    cdef uint32_t index, register
    cdef uint8_t first
    if t.flags & TIMING_EXCHANGES:
        first = s.ready[t.writes[0]]
        s.ready[t.writes[0]] = s.ready[t.writes[1]]
        s.ready[t.writes[1]] = first
        return
    if t.x87_push > 0:
        push_x87(s, t.x87_push)
    for index in range(t.write_count):
        register = t.writes[index]
        s.ready[register] = held(ready)
        if index == 0 and t.flags & TIMING_SHIFTS:
            shift_stores(s, register, t.shift)
        elif register < READY_XMM:
            forget_stores(s, register)
    if t.x87_push < 0:
        push_x87(s, t.x87_push)
    if t.flags_written & 1:
        s.ready[READY_CARRY] = held(ready)
    if t.flags_written & 2:
        s.ready[READY_FLAGS] = held(ready)


cdef uint32_t drain(Pipeline *s, const PipelineModel *m) noexcept nogil:
    cdef uint32_t index, cycles = 1 if s.slot else 0, units
    for index in range(READY_COUNT):
        cycles = later(cycles, s.ready[index])
    for index in range(PIPES):
        cycles = later(cycles, s.busy[index])
    for index in range(SEEN_STORES):
        cycles = later(cycles, s.stores[index].ready)
    units = cycles * CYCLE_FRACTION - s.slot * m.slot_units
    memset(s, 0, sizeof(Pipeline))
    return units


cdef inline uint32_t alone(const Timing *t, const PipelineModel *m) noexcept nogil:
    """What an instruction takes with which nothing overlaps, in units of 1/CYCLE_FRACTION cycle."""
    cdef const ClassTiming *k = &m.classes[t.cost]
    cdef uint32_t units = k.alone if k.alone else k.latency * CYCLE_FRACTION
    if t.flags & TIMING_LOAD:
        units += m.alone_load
    if t.flags & TIMING_STORE:
        units += m.alone_store
    if t.flags & TIMING_LOCKED:
        units += m.alone_locked
    return units


cdef uint32_t step(Pipeline *s, const Timing *t, const PipelineModel *m, uint32_t course) noexcept nogil:
    cdef const ClassTiming *k = &m.classes[t.cost]
    cdef uint32_t cycles = 0, ready, slots, more, start
    cdef uint32_t all_begun = 0
    cdef uint32_t slot = s.slot
    cdef bint fused
    if t.flags & TIMING_REPEATED:
        return drain(s, m) + later(1, m.repeat_start[t.string])
    if k.alone or t.flags & TIMING_LOCKED:
        return drain(s, m) + alone(t, m)
    if (t.flags & TIMING_TAKEN or course & COURSE_TAKEN) and s.taken >= m.taken_branches:
        cycles = 1
        pass_cycles(s, 1)
        s.slot = 0
    fused = s.fuses and t.flags & TIMING_CONDITIONAL
    slots = 0 if fused else k.slots
    ready = operands_ready(s, t)
    if t.flags & TIMING_STACK and t.shift < 0:
        shift_stores(s, READY_GENERAL + REG_RSP, t.shift)
    if t.flags & TIMING_LOAD:
        start = queue_uses(s, k if t.flags & TIMING_STACK else load_class(t, m), &all_begun)
        ready = later(ready, load(s, t, m, start))
        if not t.flags & (TIMING_ONLY_MOVES | TIMING_STACK):
            slots += m.classes[COST_LOAD].slots
    elif t.flags & TIMING_STACK:
        queue_uses(s, k, &all_begun)
    if fused:
        queue_uses(s, k, &all_begun)  # the branch is taken by its pipe, with what it is fused with
    elif not t.flags & TIMING_STACK:
        ready = execute(s, t, m, ready, &all_begun)
    write_results(s, t, ready)
    if t.flags & TIMING_STORE:
        if not t.flags & TIMING_STACK:
            queue_uses(s, &m.classes[COST_STORE_VECTOR if t.flags & TIMING_VECTOR else COST_STORE], &all_begun)
            if not t.flags & TIMING_ONLY_MOVES:
                slots += m.classes[COST_STORE].slots
        ready = later(ready, later(register_ready(s, t.base), register_ready(s, t.index)))
        remember_store(s, t, ready)
    if t.flags & TIMING_STACK and t.shift > 0:
        shift_stores(s, READY_GENERAL + REG_RSP, t.shift)
    s.fuses = t.flags & TIMING_FUSES != 0
    if t.flags & TIMING_TAKEN or course & COURSE_TAKEN:
        s.taken += 1
    ready = later(ready, all_begun)
    s.slot += <uint8_t>slots
    more = s.slot // m.width
    s.slot %= m.width
    pass_cycles(s, more)
    cycles += more
    ready = ready - more if ready > more else 0
    if course & COURSE_MISPREDICTED:
        more = ready + m.misprediction
    else:
        more = ready - m.window if ready > m.window else 0
    if more:
        pass_cycles(s, more)
        s.slot = 0
        cycles += more
    forget_old_stores(s, m)
    return cycles * CYCLE_FRACTION + s.slot * m.slot_units - slot * m.slot_units


cdef uint32_t longest_step(const Timing *t, const PipelineModel *m) noexcept nogil:
    cdef const ClassTiming *k = &m.classes[t.cost]
    cdef uint32_t index, cycles = 2 + k.latency + k.slots
    if k.alone or t.flags & TIMING_LOCKED:
        return alone(t, m)
    for index in range(k.use_count):
        cycles += k.uses[index].cycles
    if t.flags & TIMING_LOAD:
        cycles += later(m.load, m.load_vector) + later(m.forward, m.forward_vector) + m.classes[COST_LOAD].slots
    if t.flags & TIMING_STORE:
        cycles += m.classes[COST_STORE].slots + 2
    if t.flags & TIMING_CONDITIONAL:
        cycles += m.misprediction
    return cycles * CYCLE_FRACTION
