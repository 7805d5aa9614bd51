# cython: language_level=3
"""Performance counters: two of the P6 family, or of the Pentium (SDM vol. 3, chapter 18).

The counts depend on nothing but guest cycles and instructions. Events that hvmx does not model are never counted.
There are no overflow interrupts, as there is no local APIC to send them.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from hvmx.core.pipeline.paths cimport cost_through, cycles_now
from hvmx.core.state.state cimport *
from hvmx.core.state.timeline cimport note_turn

# Does the processor have counters that RDPMC reads?
cdef bint has_p6_counters(Cpu *cpu) noexcept nogil
# The value of a counter before the instruction of `op`.
cdef uint64_t read_counter(Cpu *cpu, Op *op, uint32_t index) noexcept nogil
# Bring the counters up to date before their selection changes: what has been accounted for is counted by the old one.
cdef void write_counter(Cpu *cpu, uint32_t index, uint64_t value) noexcept nogil
cdef bint valid_selection(Cpu *cpu, uint64_t value) noexcept nogil
cdef void select_events(Cpu *cpu, uint32_t index, uint64_t value) noexcept nogil
# Count what has happened up to `acct`, at the present privilege level.
cdef void count_until(Cpu *cpu, int64_t acct) noexcept nogil


cdef inline void leave_level(Cpu *cpu, Op *op) noexcept nogil:
    """Before the privilege level changes: an instruction counts at the level at which it began. NULL: there is none."""
    if UNLIKELY(cpu.counting):
        count_until(cpu, cpu.acct + (cost_through(cpu, op) if op != NULL else 0))
    if UNLIKELY(cpu.timeline != NULL):
        note_turn(cpu, cycles_now(cpu, op))
