# cython: language_level=3
"""Control registers, for code other than MOV that writes them."""
from libc.stdint cimport uint64_t

from hvmx.core.state.state cimport *

# May the value be written (SDM vol. 2, MOV to control registers)? Under PAE paging this loads the PDPTEs.
cdef bint valid_cr0(Cpu *cpu, uint64_t value) noexcept nogil
cdef bint valid_cr3(Cpu *cpu, uint64_t value) noexcept nogil
cdef bint valid_cr4(Cpu *cpu, uint64_t value) noexcept nogil
# Write it, with all its effects: on long mode, the TLB, the decoding mode.
cdef void write_cr0(Cpu *cpu, uint64_t value) noexcept nogil
cdef void write_cr3(Cpu *cpu, uint64_t value) noexcept nogil
cdef void write_cr4(Cpu *cpu, uint64_t value) noexcept nogil
