# cython: language_level=3
from hvmx.core.pipeline.paths cimport first_due
from hvmx.core.state.ops cimport full_handler, own_handler, rewind
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
    op = next_instruction(op) if one else first_due(cpu, op, cpu.budget_end)
    cut_before(cpu, op)
    if cpu.cut != NULL:
        make_plain(cpu, first, op)


cdef void make_plain(Cpu *cpu, Op *op, Op *end) noexcept nogil:
    """Up to the cut, operations have handlers that compute all flags, as what would overwrite them unread does not run yet; and
    no traces, which might reach over the cut."""
    cdef OpFn plain
    if op.fn == cpu.stale:
        return  # of a block that was dropped: it is not run
    while op != end and cpu.plain_count < MOST_PLAIN:
        # The first Op of a block that is watched for translation has its own handler in the head.
        plain = full_handler(op[-1].fn if op.place == 1 and op[-1].fn != NULL else own_handler(cpu, op))
        if plain != op.fn:
            cpu.plain[cpu.plain_count] = op
            cpu.plain_handler[cpu.plain_count] = op.fn
            cpu.plain_count += 1
            op.fn = plain
        op += 1


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
    while cpu.plain_count:
        cpu.plain_count -= 1
        if cpu.plain[cpu.plain_count].fn != cpu.stale:
            cpu.plain[cpu.plain_count].fn = cpu.plain_handler[cpu.plain_count]
