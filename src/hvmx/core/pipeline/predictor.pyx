# cython: language_level=3
from libc.stdint cimport int8_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from hvmx.core.state.state cimport *

cdef enum:
    LONG_RUN = 63              # after so many it is taken to go on for ever
    LONGEST_HISTORY = 200      # less than HISTORY_BITS
    MOST_USEFUL = 3


cdef int make_predictor(Cpu *cpu, object lengths, uint32_t entries, uint32_t targets, uint32_t target_history,
                        uint32_t returns) except -1:
    cdef Predictor *p
    cdef uint32_t index
    if len(lengths) > HISTORY_TABLES or any(not 0 < length <= LONGEST_HISTORY for length in lengths):
        raise ValueError(f"history_lengths: up to {HISTORY_TABLES} lengths of at most {LONGEST_HISTORY} branches")
    if not 0 < returns <= MOST_RETURNS:
        raise ValueError(f"return_stack: 1 to {MOST_RETURNS} entries")
    if target_history > MOST_TARGETS:
        raise ValueError(f"target_history: 0 to {MOST_TARGETS} branches")
    free_predictor(cpu)
    if not lengths:
        return 0
    p = <Predictor *>calloc(1, sizeof(Predictor))
    if p == NULL:
        raise MemoryError("the host has no room for the branch predictor")
    p.tables = <uint32_t>len(lengths)
    for index in range(p.tables):
        p.lengths[index] = lengths[index]
    p.entry_bits = bits_of(entries)
    p.target_bits = bits_of(targets)
    p.return_entries = returns
    p.target_history = target_history
    if target_history:
        p.bits_of_target = min(32, 64 // target_history)
        p.targets_kept = ~<uint64_t>0 >> (64 - target_history * p.bits_of_target)
    p.entries = <HistoryEntry *>calloc(p.tables << p.entry_bits, sizeof(HistoryEntry))
    p.by_history = <TargetEntry *>calloc(1 << p.target_bits, sizeof(TargetEntry))
    p.by_address = <TargetEntry *>calloc(1 << p.target_bits, sizeof(TargetEntry))
    cpu.predictor = p
    if p.entries == NULL or p.by_history == NULL or p.by_address == NULL:
        free_predictor(cpu)
        raise MemoryError("the host has no room for the branch predictor")
    cpu.predicts = predicts
    cpu.predicts_target = predicts_target
    cpu.predicts_return = predicts_return
    return 0


cdef uint32_t bits_of(uint32_t entries) noexcept:
    """A table's index is made of bits: the largest power of two that is not more than its entries."""
    return max(1, min(16, entries.bit_length() - 1))


cdef void free_predictor(Cpu *cpu) noexcept nogil:
    if cpu.predictor != NULL:
        free(cpu.predictor.entries)
        free(cpu.predictor.by_history)
        free(cpu.predictor.by_address)
        free(cpu.predictor)
        cpu.predictor = NULL


cdef void forget_branches(Cpu *cpu) noexcept nogil:
    cdef Predictor *p = cpu.predictor
    if p == NULL:
        return
    memset(p.runs, 0, sizeof(p.runs))
    memset(p.folded, 0, sizeof(p.folded))
    memset(p.outcomes, 0, sizeof(p.outcomes))
    memset(p.returns, 0, sizeof(p.returns))
    memset(p.entries, 0, (p.tables << p.entry_bits) * sizeof(HistoryEntry))
    memset(p.by_history, 0, (<uint64_t>1 << p.target_bits) * sizeof(TargetEntry))
    memset(p.by_address, 0, (<uint64_t>1 << p.target_bits) * sizeof(TargetEntry))
    p.latest = p.return_top = p.returned = 0
    p.targets = 0


# --- history ------------------------------------------------------------------------------------------------------------
cdef inline void remember_outcome(Predictor *p, uint32_t outcome) noexcept nogil:
    """The folded history of a table: the outcome comes in at one end, and the one that is as old as its length goes out."""
    cdef uint32_t index, oldest
    p.latest = p.latest + 1 & (HISTORY_BITS - 1)
    for index in range(p.tables):
        oldest = p.outcomes[p.latest - p.lengths[index] & (HISTORY_BITS - 1)]
        p.folded[index] = (p.folded[index] << 1 | p.folded[index] >> 31) ^ outcome ^ (oldest << (p.lengths[index] & 31))
    p.outcomes[p.latest] = <uint8_t>outcome


cdef inline uint64_t mixed(uint64_t ip, uint32_t folded) noexcept nogil:
    cdef uint64_t value = (ip ^ <uint64_t>folded << 24) * <uint64_t>0x9e3779b97f4a7c15
    return value ^ value >> 31


# --- directions ---------------------------------------------------------------------------------------------------------
cdef inline void learn_run(RunEntry *e, bint taken) noexcept nogil:
    cdef uint32_t direction = e.sure & 1, runs = e.sure >> 1
    if taken:
        e.counter += e.counter < 3
    else:
        e.counter -= e.counter > 0
    if taken == direction:
        e.run = e.run + 1 if e.run != RUN_FOREVER else LONG_RUN
        if e.run >= LONG_RUN and e.run > e.lengths[direction]:
            e.lengths[direction] = RUN_FOREVER
            e.sure = <uint8_t>(RUN_SURE | direction)
        return
    if e.run == e.lengths[direction]:
        runs += runs < RUN_SURE >> 1
    else:
        runs = 0
        e.lengths[direction] = e.run
    e.run = 1
    e.sure = <uint8_t>(runs << 1 | taken)


cdef inline int8_t towards(int8_t direction, bint taken) noexcept nogil:
    if taken:
        return direction + 1 if direction < 3 else direction
    return direction - 1 if direction > -4 else direction


cdef int predicts(Cpu *cpu, uint64_t ip, int taken) noexcept nogil:
    cdef RunEntry *e = runs_of(cpu.predictor, ip)
    cdef uint32_t direction = e.sure & 1
    cdef bint right, ends = e.run == e.lengths[direction] and e.run != RUN_FOREVER
    if e.sure >= RUN_SURE:
        right = (direction != ends) == taken
    else:
        right = history_predicts(cpu.predictor, ip, taken, e.counter >= 2)
    learn_run(e, taken)
    cpu.mispredictions += not right
    return right


cdef bint history_predicts(Predictor *p, uint64_t ip, bint taken, bint tends_to) noexcept nogil:
    cdef HistoryEntry *found[HISTORY_TABLES]
    cdef HistoryEntry *entry
    cdef uint16_t tags[HISTORY_TABLES]
    cdef uint64_t hashed
    cdef int provider = -1, other = -1, index
    cdef bint predicted, otherwise, right
    for index in range(<int>p.tables):
        hashed = mixed(ip, p.folded[index])
        tags[index] = <uint16_t>(hashed >> 40 | 1)
        found[index] = &p.entries[(<uint64_t>index << p.entry_bits) + (hashed >> 8 & ((1 << p.entry_bits) - 1))]
        if found[index].tag == tags[index]:
            other = provider
            provider = index
    otherwise = found[other].direction >= 0 if other >= 0 else tends_to
    predicted = found[provider].direction >= 0 if provider >= 0 else tends_to
    right = predicted == taken
    if provider >= 0:
        entry = found[provider]
        if predicted != otherwise:
            if right:
                entry.useful += entry.useful < MOST_USEFUL
            elif entry.useful:
                entry.useful -= 1
        entry.direction = towards(entry.direction, taken)
    if not right:
        allocate(p, found, tags, provider + 1, taken)
    remember_outcome(p, taken)
    return right


cdef inline void allocate(Predictor *p, HistoryEntry **found, uint16_t *tags, int first, bint taken) noexcept nogil:
    """An entry in the first longer table whose place is not useful to another branch; there, they become less useful."""
    cdef int index
    for index in range(first, <int>p.tables):
        if found[index].useful == 0:
            found[index].tag = tags[index]
            found[index].direction = 0 if taken else -1
            return
        found[index].useful -= 1


# --- targets ------------------------------------------------------------------------------------------------------------
cdef inline uint64_t targets_known(const Predictor *p) noexcept nogil:
    """Those that are not too long ago: each return moves them on, too."""
    return p.targets << p.bits_of_target * p.returned & p.targets_kept if p.returned < p.target_history else 0


cdef inline void remember_target(Predictor *p, uint64_t hashed) noexcept nogil:
    if p.target_history:
        p.targets = (targets_known(p) << p.bits_of_target | hashed >> (64 - p.bits_of_target)) & p.targets_kept
        p.returned = 0
    else:
        remember_outcome(p, hashed >> 20 & 1)
        remember_outcome(p, hashed >> 21 & 1)


cdef int predicts_target(Cpu *cpu, uint64_t ip, uint64_t target) noexcept nogil:
    cdef Predictor *p = cpu.predictor
    cdef uint64_t hashed = mixed(ip ^ mixed(targets_known(p), 0), p.folded[p.tables // 2])
    cdef uint16_t tag = <uint16_t>(hashed >> 40 | 1)
    cdef TargetEntry *by_history = &p.by_history[hashed >> 8 & ((1 << p.target_bits) - 1)]
    cdef TargetEntry *by_address = &p.by_address[mixed(ip, 0) >> 8 & ((1 << p.target_bits) - 1)]
    cdef bint right = (by_history if by_history.tag == tag else by_address).target == target
    if by_history.tag == tag or not right:
        by_history.tag = tag
        by_history.target = target
    by_address.target = target
    remember_target(p, mixed(target, 0))
    cpu.mispredictions += not right
    return right


cdef int predicts_return(Cpu *cpu, uint64_t target) noexcept nogil:
    cdef Predictor *p = cpu.predictor
    cdef bint right = p.returns[p.return_top] == target
    p.return_top = p.return_top - 1 if p.return_top else p.return_entries - 1
    p.returned += 1
    cpu.mispredictions += not right
    return right
