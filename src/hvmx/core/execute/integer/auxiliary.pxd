# cython: language_level=3
"""Operations that are not instructions: guards and address Ops in front of one, and the ends of blocks."""
from hvmx.core.state.state cimport *

cdef void stale(Cpu *cpu, Op *op) noexcept nogil
cdef void block_end(Cpu *cpu, Op *op) noexcept nogil
cdef void followed_jump(Cpu *cpu, Op *op) noexcept nogil
cdef void undefined(Cpu *cpu, Op *op) noexcept nogil
cdef void too_long(Cpu *cpu, Op *op) noexcept nogil
cdef void guard(Cpu *cpu, Op *op) noexcept nogil
cdef void guard_x87(Cpu *cpu, Op *op) noexcept nogil
cdef void guard_x87_waiting(Cpu *cpu, Op *op) noexcept nogil
cdef void guard_mmx(Cpu *cpu, Op *op) noexcept nogil
cdef void guard_sse(Cpu *cpu, Op *op) noexcept nogil
cdef void guard_sse_and_mmx(Cpu *cpu, Op *op) noexcept nogil
cdef void ea_flat32(Cpu *cpu, Op *op) noexcept nogil
cdef void ea_flat64(Cpu *cpu, Op *op) noexcept nogil
cdef void ea_offset(Cpu *cpu, Op *op) noexcept nogil
cdef void ea_segment(Cpu *cpu, Op *op) noexcept nogil
cdef void ea_based32(Cpu *cpu, Op *op) noexcept nogil
cdef void ea_based64(Cpu *cpu, Op *op) noexcept nogil
