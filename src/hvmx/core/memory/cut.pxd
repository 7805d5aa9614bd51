# cython: language_level=3
"""Cuts: how a chain of handlers comes back to the run loop in the middle of a block.

An event takes effect before the instruction at which it is due, wherever that is in its block; a step ends after one
instruction; what an exit handler has changed takes effect before the next instruction. In each case the first Op of the
instruction that must not run yet gets another handler, one that returns to the run loop, until the chain has returned.
So stepping and slicing run the same blocks as a whole run, and give the same cycles.
"""
from hvmx.core.state.state cimport *

# Before the chain runs from `op` on: return before the first instruction that begins when the budget is spent; or, for
# `one`, after one instruction.
cdef void cut_block(Cpu *cpu, Op *op, bint one) noexcept nogil
# While the chain runs: return after the instruction of `op`. The caller has made Cpu.acct at least 0, so that branches
# return too.
cdef void cut_after(Cpu *cpu, Op *op) noexcept nogil
# After the chain has returned: put the handlers back.
cdef void undo_cut(Cpu *cpu) noexcept nogil


cdef inline void end_budget(Cpu *cpu, Op *op) noexcept nogil:
    """Return to the run loop after the instruction of `op`, for a new budget. NULL: the access is of no decoded instruction."""
    cpu.pending |= PEND_BUDGET
    if cpu.acct < 0:
        cpu.acct_start -= cpu.acct
        cpu.acct = 0
    if op != NULL:
        cut_after(cpu, op)
