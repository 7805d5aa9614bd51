# cython: language_level=3
"""Pushes and pops of any width on any stack, for instructions that are too rare for specialised handlers."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from hvmx.core.state.state cimport *

# The linear address at `offset` from the stack pointer, checked; sets cpu.fault. `size` in bytes.
cdef uint64_t stack_address(Cpu *cpu, Op *op, int64_t offset, uint32_t size, bint write) noexcept nogil
# Add to the stack pointer, within the stack's width.
cdef void move_stack(Cpu *cpu, int64_t offset) noexcept nogil
# Push `width` bits; False on a fault, with nothing changed.
cdef bint push(Cpu *cpu, Op *op, uint32_t width, uint64_t value) noexcept nogil
# The value at the top of the stack; the stack pointer does not change. Sets cpu.fault on a fault.
cdef uint64_t peek_stack(Cpu *cpu, Op *op, uint32_t width) noexcept nogil
