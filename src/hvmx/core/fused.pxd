# cython: language_level=3
"""Pairs of instructions that run as one operation: a comparison or a count on registers and the Jcc behind it."""
from libc.stdint cimport uint32_t

from hvmx.core.state cimport *

# The handler for `family` on registers (or with an immediate), followed by Jcc to the same page; NULL if there is none.
cdef OpFn fused_with_jcc(uint32_t family, uint32_t form, uint32_t width, uint32_t code) noexcept nogil
