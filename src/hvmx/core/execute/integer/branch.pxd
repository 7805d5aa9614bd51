# cython: language_level=3
"""Handlers of direct branches, which depend on where the target lies: same page or not, reachable at all or not."""
from libc.stdint cimport uint32_t

from hvmx.core.state.state cimport *

cdef OpFn jcc_handler(uint32_t code, bint same_page, bint bad) noexcept nogil
cdef OpFn jump_handler(bint same_page, bint bad) noexcept nogil
cdef OpFn call_handler(uint32_t width, uint32_t stack, bint same_page, bint bad) noexcept nogil
