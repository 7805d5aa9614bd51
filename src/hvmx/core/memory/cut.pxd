# cython: language_level=3
"""Cuts: where a chain of handlers comes back to the run loop in the middle of a block.

An event takes effect before the instruction at which it is due, wherever that stands in its block; a step ends after one
instruction; what a handler of an exit has done counts before the next instruction. In each case the first Op of the
instruction before which to come back gets another handler, for as long as the chain runs. So stepping and slicing run
the same blocks as a whole run does, and cannot be told from it.
"""
from hvmx.core.state.state cimport *

# Before the chain from `op` on: come back before the first instruction at which the budget ends, or, for `one`, after one.
cdef void cut_block(Cpu *cpu, Op *op, bint one) noexcept nogil
# Within the chain: come back after the instruction of `op`. The caller has made Cpu.acct at least 0, so that
# branches come back too.
cdef void cut_after(Cpu *cpu, Op *op) noexcept nogil
# After the chain: put the handlers back.
cdef void mend_cut(Cpu *cpu) noexcept nogil


cdef inline void end_budget(Cpu *cpu, Op *op) noexcept nogil:
    """Come back after the instruction of `op` (NULL: of no block's) and count the budget anew."""
    cpu.pending |= PEND_BUDGET
    if cpu.acct < 0:
        cpu.acct_start -= cpu.acct
        cpu.acct = 0
    if op != NULL:
        cut_after(cpu, op)
