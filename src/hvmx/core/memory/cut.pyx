# cython: language_level=3
from hvmx.core.state.ops cimport own_handler, rewind
from hvmx.core.state.state cimport *


cdef void come_back(Cpu *cpu, Op *op) noexcept nogil:
    rewind(cpu, op)
    cpu.resume = op


cdef inline bint ends_block(Op *op) noexcept nogil:
    """Is this the Op at the end of a block, which belongs to no instruction? It returns by itself if Cpu.acct is not negative."""
    return op.len == 0


cdef void cut_before(Cpu *cpu, Op *op) noexcept nogil:
    if cpu.cut != NULL:
        undo_cut(cpu)
    if ends_block(op):
        return
    cpu.cut = op
    cpu.cut_handler = op.fn
    op.fn = come_back


cdef void cut_block(Cpu *cpu, Op *op, bint one) noexcept nogil:
    cdef Op *first = op
    cdef bint instruction_ends = False
    cpu.bypassed = NULL
    while not ends_block(op):
        instruction_ends = op.acct != (op - 1).acct
        op += 1
        if instruction_ends and (one or cpu.acct + <int64_t>(op - 1).acct >= cpu.budget_end):
            break
    cut_before(cpu, op)
    if cpu.cut == NULL:
        return
    # A trace that reaches over the cut is bypassed: its first Op has its own handler again, until undo_cut().
    while op != first:
        op -= 1
        if own_handler(cpu, op) != op.fn:
            cpu.bypassed = op
            cpu.bypassed_handler = op.fn
            op.fn = own_handler(cpu, op)
            return


cdef void cut_after(Cpu *cpu, Op *op) noexcept nogil:
    while op.acct == (op - 1).acct:  # the instruction has more Ops: after a guard, or an address Op
        op += 1
    cut_before(cpu, op + 1)


cdef void undo_cut(Cpu *cpu) noexcept nogil:
    # If the block was dropped meanwhile, its Ops have the handler Cpu.stale, and keep it.
    if cpu.cut.fn == come_back:
        cpu.cut.fn = cpu.cut_handler
    cpu.cut = NULL
    if cpu.bypassed != NULL:
        if cpu.bypassed.fn != cpu.stale:
            cpu.bypassed.fn = cpu.bypassed_handler
        cpu.bypassed = NULL
