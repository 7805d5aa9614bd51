# cython: language_level=3
"""Control registers, for those that write them otherwise than by MOV."""
from libc.stdint cimport uint64_t

from hvmx.core.state.state cimport *

# May the value be written (SDM vol. 2, MOV to control registers)? Under PAE paging this loads the PDPTEs.
cdef bint valid_cr0(Cpu *cpu, uint64_t value) noexcept nogil
cdef bint valid_cr3(Cpu *cpu, uint64_t value) noexcept nogil
cdef bint valid_cr4(Cpu *cpu, uint64_t value) noexcept nogil
# Write it, with all that follows: long mode, TLB, decoding mode.
cdef void write_cr0(Cpu *cpu, uint64_t value) noexcept nogil
cdef void write_cr3(Cpu *cpu, uint64_t value) noexcept nogil
cdef void write_cr4(Cpu *cpu, uint64_t value) noexcept nogil
