# cython: language_level=3
from hvmx.core.pipeline.paths cimport first_due
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
    cpu.bypassed = NULL
    op = next_instruction(op) if one else first_due(cpu, op, cpu.budget_end)
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


cdef Op *next_instruction(Op *op) noexcept nogil:
    """An instruction may have more Ops: a guard, or an address Op."""
    cdef uint32_t number = op.number
    while op.number == number and not ends_block(op):
        op += 1
    return op


cdef void cut_after(Cpu *cpu, Op *op) noexcept nogil:
    cut_before(cpu, next_instruction(op))


cdef void undo_cut(Cpu *cpu) noexcept nogil:
    # If the block was dropped meanwhile, its Ops have the handler Cpu.stale, and keep it.
    if cpu.cut.fn == come_back:
        cpu.cut.fn = cpu.cut_handler
    cpu.cut = NULL
    if cpu.bypassed != NULL:
        if cpu.bypassed.fn != cpu.stale:
            cpu.bypassed.fn = cpu.bypassed_handler
        cpu.bypassed = NULL
