# cython: language_level=3
import os

from libc.stdint cimport int64_t, uint32_t, uint64_t

from hvmx.core.state.state cimport *

cdef enum:
    # Ports, MSRs and pages that are counted one by one: a bound on what a guest makes us hold.
    DETAILS = 1 << 15

# Keys of details: the number in the upper 56 bits, which hold every guest-physical address, and the reason.
cdef uint64_t NO_DETAIL = ~<uint64_t>0
cdef uint64_t OTHERS = ~<uint64_t>0 >> 8


cdef class Detail:
    """The exits of one reason that concern one port, MSR, register, vector or page."""

    cdef Tally tally


cdef void add_to(Tally *tally, uint64_t cycles, uint64_t host_ns) noexcept:
    if tally.count == 0 or cycles < tally.least:
        tally.least = cycles
    if cycles > tally.most:
        tally.most = cycles
    if tally.count == 0 or host_ns < tally.host_least:
        tally.host_least = host_ns
    if host_ns > tally.host_most:
        tally.host_most = host_ns
    tally.count += 1
    tally.cycles += cycles
    tally.host_ns += host_ns


cdef tuple figures(Tally *tally):
    return (tally.count, tally.cycles, tally.least, tally.most, tally.host_ns, tally.host_least, tally.host_most)


cdef inline int64_t number_of(uint64_t key) noexcept:
    return -1 if key >> 8 == OTHERS else <int64_t>(key >> 8)


cdef inline uint64_t detail_of(Cpu *cpu) noexcept:
    """What the exit concerns, as far as that is counted."""
    cdef uint64_t reason = <uint64_t>1 << cpu.exit.reason
    if EXIT_REASONS_WITH_NUMBER & reason:
        return cpu.exit.number
    if EXIT_REASONS_WITH_PAGE & reason:
        return cpu.exit.physical & ~<uint64_t>0xfff
    return NO_DETAIL


cdef class ExitCounts:
    def __cinit__(self):
        self.details = {}
        self.factor = int.from_bytes(os.urandom(8), "little") | 1
        self.inverse = pow(self.factor, -1, 1 << 64)

    cdef uint64_t began(self, Cpu *cpu) noexcept:
        cdef uint64_t number = detail_of(cpu)
        self.remember(cpu, 0 if number == NO_DETAIL else number)
        return number

    # One of each kind, so that a console's output or a loop does not push out what came before it. Nested paging's
    # violations are one kind, as each is of a page of its own.
    cdef void remember(self, Cpu *cpu, uint64_t number) noexcept:
        cdef uint32_t reason = cpu.exit.reason
        cdef uint64_t cycle = guest_time(cpu) // CYCLE_FRACTION
        cdef PastExit *past = &self.past[self.latest]
        if past.reason != reason or past.number != number or not self.exits:
            past = self.kind_of(reason, number, cycle)
            self.latest = <uint32_t>(past - self.past)
        past.place = self.exits
        past.number = number
        past.rip = cpu.rip
        past.cycle = cycle
        past.count += 1
        self.exits += 1

    cdef PastExit *kind_of(self, uint32_t reason, uint64_t number, uint64_t cycle) noexcept:
        cdef PastExit *past
        cdef PastExit *oldest = &self.past[0]
        cdef uint32_t index
        for index in range(self.past_count):
            past = &self.past[index]
            if past.reason == reason and (past.number == number or reason == EXIT_REASON_EPT_VIOLATION):
                return past
            if past.place < oldest.place:
                oldest = past
        past = oldest
        if self.past_count < PAST_EXITS:
            past = &self.past[self.past_count]
            self.past_count += 1
        past.reason = reason
        past.count = 0
        past.first_cycle = cycle
        return past

    cdef uint64_t hidden(self, uint64_t key) noexcept:
        # A guest that knew what a dictionary hashes could choose pages that all share a place in it.
        return key * self.factor

    cdef int ended(self, uint32_t reason, uint64_t number, uint64_t units, uint64_t host_ns) except -1:
        cdef uint64_t cycles = units // CYCLE_FRACTION
        cdef Detail detail
        add_to(&self.tallies[reason], cycles, host_ns)
        if number != NO_DETAIL:
            key = self.hidden((number << 8) | reason)
            detail = self.details.get(key)
            if detail is None:
                if len(self.details) >= DETAILS:
                    key = self.hidden((OTHERS << 8) | reason)
                detail = self.details.setdefault(key, Detail())
            add_to(&detail.tally, cycles, host_ns)
        return 0

    cdef dict by_reason(self):
        return {reason: figures(&self.tallies[reason]) for reason in range(REASONS) if self.tallies[reason].count}

    cdef dict by_number(self):
        cdef dict numbers = {}
        cdef uint64_t key
        for hidden, detail in self.details.items():
            key = <uint64_t>hidden * self.inverse
            numbers[key & 0xff, <int64_t>number_of(key)] = figures(&(<Detail>detail).tally)
        return numbers

    cdef list last(self):
        cdef PastExit *past
        cdef uint32_t index
        exits = []
        for index in range(self.past_count):
            past = &self.past[index]
            row = (past.reason, past.number, past.rip, past.cycle, past.count, past.first_cycle)
            exits.append((past.place, row))
        return [row for _, row in sorted(exits)]
