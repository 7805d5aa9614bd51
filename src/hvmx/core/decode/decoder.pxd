# cython: language_level=3
"""From bytes to instructions."""
from libc.stdint cimport uint8_t, uint64_t

from hvmx.core.state.insn cimport *

cdef int decode(const uint8_t* code, int available, int mode, uint64_t features, Insn* out) noexcept nogil
cdef const InsnRow* row_of(const Insn* insn) noexcept nogil
