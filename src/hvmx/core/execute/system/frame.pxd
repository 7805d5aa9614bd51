# cython: language_level=3
"""A stack that is not in SS:rSP, or not yet: that of another level, while the switch to it may still fault."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from hvmx.core.state.state cimport *

ctypedef struct Frame:
    Segment ss
    uint64_t pointer
    uint32_t cpl           # the privilege level of accesses to it
    uint32_t error         # error code of #SS when the limit is exceeded
    bint long_mode         # 64-bit pointers, no limits

# The stack in SS:rSP.
cdef void current_frame(Cpu *cpu, Frame *frame) noexcept nogil
# Push or pop `size` bytes; False on a fault.
cdef bint frame_push(Cpu *cpu, Op *op, Frame *frame, uint32_t size, uint64_t value) noexcept nogil
cdef bint frame_pop(Cpu *cpu, Op *op, Frame *frame, uint32_t size, uint64_t *value) noexcept nogil
cdef void frame_move(Frame *frame, int64_t offset) noexcept nogil
# The stack of privilege level `cpl`: its pointer and selector from the TSS, checked, with the descriptor loaded. In a
# 64-bit TSS the pointer is at `slot` (4 + 8 * level, or 28 + 8 * IST), and SS becomes null if the level changes.
# False: #TS, #SS, ...
cdef bint inner_frame(Cpu *cpu, Op *op, uint32_t cpl, uint32_t ext, Frame *frame) noexcept nogil
cdef bint inner_frame64(Cpu *cpu, Op *op, uint32_t cpl, uint32_t slot, uint32_t ext, Frame *frame) noexcept nogil
