# cython: language_level=3
"""How translated code goes on: to the next operation, to a branch's target, or back to the interpreter.

leave_by(), alone_if() and canonical_or_alone() take the place as it is; the others want the guest's state in Cpu.
"""
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from hvmx.core.translate.trace cimport *

# A jump that goes out of line, with the present place: see EXIT_* in stretch.pxd.
cdef void leave_by(Stretch *t, uint8_t *jump, uint32_t kind, Op *op) noexcept nogil
# Where a condition of the host holds, the operation runs alone: EXIT_ALONE.
cdef void alone_if(Stretch *t, uint32_t condition, Op *op) noexcept nogil
# The code of all those jumps' targets.
cdef void write_exits(Stretch *t) noexcept nogil
# On to an operation of the same block, by its handler.
cdef void go_to(Stretch *t, Op *op) noexcept nogil
# A direct branch within its page is taken.
cdef void follow_to(Stretch *t, Op *op) noexcept nogil
# A branch to another page, or the end of the block.
cdef void enter_at(Stretch *t, Op *op, uint64_t target) noexcept nogil
# Where host + disp is no canonical address, the operation runs alone.
cdef void canonical_or_alone(Stretch *t, Op *op, uint32_t host, int32_t disp, uint32_t scratch) noexcept nogil
# An indirect branch. The target is in RAX; where the jump cache does not know it, the operation runs alone. RDX is left
# at the entry of the cache.
cdef void known_target(Stretch *t, Op *op) noexcept nogil
cdef void jump_entry_into_rdx(Stretch *t) noexcept nogil
cdef void enter_known(Stretch *t, Op *op) noexcept nogil
