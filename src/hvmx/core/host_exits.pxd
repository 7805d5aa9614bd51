# cython: language_level=3
"""How translated code goes on: to the next operation, to a branch's target, or back to the interpreter.

All but leave_by() want the guest's state in Cpu, flags and registers.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from hvmx.core.translation cimport *

# A jump that goes out of line, with the present place: see EXIT_* in translation.pxd.
cdef void leave_by(Translation *t, uint8_t *jump, uint32_t kind, Op *op) noexcept nogil
# The code of all those jumps' targets.
cdef void write_exits(Translation *t) noexcept nogil
# On to an operation of the same block, by its handler.
cdef void go_to(Translation *t, Op *op) noexcept nogil
# A direct branch within its page is taken.
cdef void follow_to(Translation *t, Op *op) noexcept nogil
# A branch to another page, or the end of the block.
cdef void enter_at(Translation *t, Op *op, uint64_t target) noexcept nogil
# An indirect branch. The target is in RAX; where the jump cache does not know it, the operation runs alone. RDX is left
# at the entry of the cache.
cdef void known_target(Translation *t, Op *op) noexcept nogil
cdef void jump_entry_into_rdx(Translation *t) noexcept nogil
cdef void enter_known(Translation *t, Op *op) noexcept nogil
