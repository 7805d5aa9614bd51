# cython: language_level=3
"""Handlers of direct branches, by their target: on the same page or not, and whether a branch there faults."""
from libc.stdint cimport uint32_t

from hvmx.core.state.state cimport *

# Handlers of branches that the predictor did not expect, executed but for going on: to Cpu.rip, or to the next instruction.
cdef void go_mispredicted(Cpu *cpu, Op *op) noexcept nogil
cdef void fall_through_mispredicted(Cpu *cpu, Op *op) noexcept nogil
cdef OpFn jcc_handler(uint32_t code, bint same_page, bint bad) noexcept nogil
cdef OpFn jmp_handler(bint same_page, bint bad) noexcept nogil
cdef OpFn call_handler(uint32_t width, uint32_t stack, bint same_page, bint bad) noexcept nogil
