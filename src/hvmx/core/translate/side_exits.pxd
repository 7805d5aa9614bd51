# cython: language_level=3
"""How translated code goes on: to the next operation, to a branch's target, or back to the interpreter.

add_side_exit(), side_exit_if(), side_exit_unless_canonical() and probe_jump_cache() may be called with dirty registers
and pending flags, which the side exit spills and materialises; the others only once all of the guest's state is in Cpu.
"""
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from hvmx.core.translate.trace cimport *

# A side exit of this kind (SIDE_EXIT_* in trace.pxd) is where `jump` goes, with the state as it is here.
cdef void add_side_exit(Trace *t, uint8_t *jump, uint32_t kind, Op *op) noexcept nogil
# Where a condition of the host holds, the interpreter goes on at `op`.
cdef void side_exit_if(Trace *t, uint32_t condition, Op *op) noexcept nogil
# The code of all side exits, and the targets of the jumps to them.
cdef void emit_side_exits(Trace *t) noexcept nogil
# On to an operation of the same block, by its handler.
cdef void go_to(Trace *t, Op *op) noexcept nogil
# A direct branch within its page is taken.
cdef void follow_to(Trace *t, Op *op) noexcept nogil
# A branch to another page, or the end of the block.
cdef void enter_at(Trace *t, Op *op, uint64_t target) noexcept nogil
# Where host + disp is not a canonical address, the interpreter goes on at `op`.
cdef void side_exit_unless_canonical(Trace *t, Op *op, uint32_t host, int32_t disp, uint32_t scratch) noexcept nogil
# An indirect branch to the target in RAX: where the jump cache does not have it, the interpreter goes on at `op`.
# Leaves RDX at the entry of the cache, as jump_entry_into_rdx() does, for enter_jump_cache_hit(). Uses RCX.
cdef void probe_jump_cache(Trace *t, Op *op) noexcept nogil
cdef void jump_entry_into_rdx(Trace *t) noexcept nogil
cdef void enter_jump_cache_hit(Trace *t, Op *op, bint returns) noexcept nogil
# With a branch predictor: a conditional branch is not taken; a call leaves the address to which it returns.
cdef void expect_not_taken(Trace *t, Op *op) noexcept nogil
cdef void push_return(Trace *t, Op *op) noexcept nogil
