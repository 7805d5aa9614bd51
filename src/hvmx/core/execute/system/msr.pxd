# cython: language_level=3
"""Model-specific registers, by the numbers of the SDM (vol. 4, table 2-2)."""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.state.state cimport *

# Does this processor have the MSR?
cdef bint has_msr(Cpu *cpu, uint32_t number) noexcept nogil
# The same; `value`: its value. Counters of time have that of the end of the instruction.
cdef bint read_msr(Cpu *cpu, Op *op, uint32_t number, uint64_t *value) noexcept nogil
# May the value be written to this MSR, which exists?
cdef bint valid_msr(Cpu *cpu, uint32_t number, uint64_t value) noexcept nogil
# Write it, with all its effects.
cdef void write_msr(Cpu *cpu, uint32_t number, uint64_t value) noexcept nogil
