# cython: language_level=3
"""Neighbouring instructions that run as one operation: comparisons and the Jcc behind them, ends of loops, stack pairs."""
from libc.stdint cimport uint32_t

from hvmx.core.state cimport *

# The handler for `family` on registers (or with an immediate), followed by Jcc to the same page; NULL if there is none.
cdef OpFn fused_with_jcc(uint32_t family, uint32_t form, uint32_t width, uint32_t code) noexcept nogil
# The handler for what `comparison` does, on memory, followed by Jcc to the same page; NULL if there is none.
cdef OpFn fused_memory_with_jcc(OpFn comparison, uint32_t code) noexcept nogil
# The handler for INC or a quiet ADD on registers, followed by CMP on registers (`form2`) and Jcc; NULL if there is none.
cdef OpFn fused_loop_end(uint32_t family, uint32_t form, uint32_t width, uint32_t form2, uint32_t code) noexcept nogil
# The handler for two PUSHes or two POPs of registers on this kind of stack; NULL if there is none.
cdef OpFn fused_stack(uint32_t family, uint32_t width, uint32_t stack) noexcept nogil
