# cython: language_level=3
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from hvmx.core.generated.families cimport FEATURE_P6_COUNTERS
from hvmx.core.pipeline.paths cimport cost_before
from hvmx.core.state.state cimport *

cdef enum:
    # PerfEvtSel of the P6 family; its low byte is the event
    SELECT_USER = 1 << 16
    SELECT_SYSTEM = 1 << 17
    SELECT_ENABLE = 1 << 22         # in PerfEvtSel0, for both counters
    EVENT_INSTRUCTIONS = 0xc0       # retired
    EVENT_CYCLES = 0x79             # not halted
    # CESR of the Pentium: 16 bits for each counter
    CESR_EVENT = 0x3f
    CESR_SYSTEM = 1 << 6            # at CPL 0 to 2
    CESR_USER = 1 << 7
    CESR_CLOCKS = 1 << 8            # count the clocks that the event lasts
    CESR_DEFINED = 0x03ff03ff
    EVENT_EXECUTED = 0x16           # instructions, and delivered interrupts and exceptions
    # what a counter counts
    COUNT_NOTHING = 0
    COUNT_INSTRUCTIONS
    COUNT_CYCLES
    COUNT_EXECUTED
# Options that make a different event of it: unit mask, edge detection, counter mask.
cdef uint64_t SELECT_UNCOUNTED = <uint64_t>0xff04ff00
cdef uint64_t SELECT_DEFINED = <uint64_t>0xffdfffff
cdef uint64_t COUNTER = (<uint64_t>1 << 40) - 1


cdef bint has_p6_counters(Cpu *cpu) noexcept nogil:
    return cpu.features >> FEATURE_P6_COUNTERS & 1


cdef uint64_t selection(Cpu *cpu, uint32_t index) noexcept nogil:
    return cpu.event_select[index] if has_p6_counters(cpu) else cpu.event_select[0] >> (16 * index) & 0xffff


cdef uint32_t countable(Cpu *cpu, uint64_t select) noexcept nogil:
    """The event that is selected, whether the counter is enabled or not."""
    if not has_p6_counters(cpu):
        return COUNT_EXECUTED if select & (CESR_EVENT | CESR_CLOCKS) == EVENT_EXECUTED else COUNT_NOTHING
    if select & SELECT_UNCOUNTED:
        return COUNT_NOTHING
    if select & 0xff == EVENT_INSTRUCTIONS:
        return COUNT_INSTRUCTIONS
    return COUNT_CYCLES if select & 0xff == EVENT_CYCLES else COUNT_NOTHING


cdef uint64_t levels(Cpu *cpu, uint64_t select) noexcept nogil:
    """The privilege levels at which the counter counts: bit 0 for outer, bit 1 for inner (present_level())."""
    if has_p6_counters(cpu):
        return (1 if select & SELECT_USER else 0) | (2 if select & SELECT_SYSTEM else 0)
    return (1 if select & CESR_USER else 0) | (2 if select & CESR_SYSTEM else 0)


cdef inline uint64_t present_level(Cpu *cpu) noexcept nogil:
    return 1 if cpu.cpl == 3 or cpu.cpl and has_p6_counters(cpu) else 2


cdef void count_until(Cpu *cpu, int64_t acct) noexcept nogil:
    cdef uint64_t passed = <uint64_t>(acct - cpu.acct_start)
    cdef uint64_t instructions = cpu.instructions + (passed & ACCT_INSTR_MASK)
    cdef uint64_t time = cpu.time + (passed >> ACCT_SHIFT) - cpu.halted_time
    cdef uint64_t deliveries = cpu.exceptions + cpu.interrupts
    cdef uint64_t select
    cdef uint32_t index, what
    for index in range(2):
        select = selection(cpu, index)
        what = countable(cpu, select)
        if not levels(cpu, select) & present_level(cpu) or has_p6_counters(cpu) and not cpu.event_select[0] & SELECT_ENABLE:
            continue
        if what == COUNT_CYCLES:
            cpu.event_count[index] += time - cpu.counted_time
        elif what == COUNT_INSTRUCTIONS:
            cpu.event_count[index] += (instructions - cpu.counted_instructions) * CYCLE_FRACTION
        elif what == COUNT_EXECUTED:
            cpu.event_count[index] += (instructions - cpu.counted_instructions
                                       + deliveries - cpu.counted_deliveries) * CYCLE_FRACTION
    cpu.counted_time = time
    cpu.counted_instructions = instructions
    cpu.counted_deliveries = deliveries


cdef uint64_t read_counter(Cpu *cpu, Op *op, uint32_t index) noexcept nogil:
    count_until(cpu, cpu.acct + (cost_before(cpu, op) if op != NULL else 0))
    return cpu.event_count[index] // CYCLE_FRACTION & COUNTER


cdef void write_counter(Cpu *cpu, uint32_t index, uint64_t value) noexcept nogil:
    count_until(cpu, cpu.acct)
    if has_p6_counters(cpu):
        value = <uint64_t><int64_t><int32_t>value  # sign-extended from bit 31 (SDM vol. 3, chapter 18: P6 family)
    cpu.event_count[index] = (value & COUNTER) * CYCLE_FRACTION


cdef bint valid_selection(Cpu *cpu, uint64_t value) noexcept nogil:
    return value & ~(SELECT_DEFINED if has_p6_counters(cpu) else <uint64_t>CESR_DEFINED) == 0


cdef void select_events(Cpu *cpu, uint32_t index, uint64_t value) noexcept nogil:
    cdef uint64_t select
    cdef uint32_t event
    count_until(cpu, cpu.acct)
    cpu.event_select[index] = value
    cpu.counting = 0
    for index in range(2):
        select = selection(cpu, index)
        if not levels(cpu, select):
            continue
        if countable(cpu, select) != COUNT_NOTHING:
            cpu.counting = 1
        else:
            event = <uint32_t>select & (0xff if has_p6_counters(cpu) else CESR_EVENT)
            cpu.uncounted_events[event >> 6] |= <uint64_t>1 << (event & 63)
