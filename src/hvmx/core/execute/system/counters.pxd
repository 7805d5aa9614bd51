# cython: language_level=3
"""Performance counters: two of the P6 family, or of the Pentium (SDM vol. 3, chapter 20: P6 and Pentium processors).

What is counted depends on guest cycles and instructions alone. An event that hvmx has no figure of is never counted. No
overflow interrupts: there is no local APIC to send them.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from hvmx.core.state.state cimport *

# Has the processor the counters that RDPMC reads?
cdef bint has_p6_counters(Cpu *cpu) noexcept nogil
# What a counter holds before the instruction that `op` belongs to.
cdef uint64_t read_counter(Cpu *cpu, Op *op, uint32_t index) noexcept nogil
# What has been accounted for has been counted by the counters of before.
cdef void write_counter(Cpu *cpu, uint32_t index, uint64_t value) noexcept nogil
cdef bint valid_selection(Cpu *cpu, uint64_t value) noexcept nogil
cdef void select_events(Cpu *cpu, uint32_t index, uint64_t value) noexcept nogil
# Count what has happened until `acct`, at the present privilege level.
cdef void count_until(Cpu *cpu, int64_t acct) noexcept nogil


cdef inline void count_events(Cpu *cpu, Op *op) noexcept nogil:
    """Before the privilege level changes: an instruction (NULL: there is none) counts at the level that it began at."""
    if UNLIKELY(cpu.counting):
        count_until(cpu, cpu.acct + <int64_t>op.acct if op != NULL else cpu.acct)
