# cython: language_level=3
from hvmx.core.state.ops cimport own_handler, rewind
from hvmx.core.state.state cimport *


cdef void come_back(Cpu *cpu, Op *op) noexcept nogil:
    rewind(cpu, op)
    cpu.resume = op


cdef inline bint ends_block(Op *op) noexcept nogil:
    """A block's last Op is of no instruction; it comes back by itself once Cpu.acct is not negative."""
    return op.len == 0


cdef void cut_before(Cpu *cpu, Op *op) noexcept nogil:
    if cpu.cut != NULL:
        mend_cut(cpu)
    if ends_block(op):
        return
    cpu.cut = op
    cpu.cut_handler = op.fn
    op.fn = come_back


cdef void cut_block(Cpu *cpu, Op *op, bint one) noexcept nogil:
    cdef Op *first = op
    cdef bint instruction_ends = False
    cpu.uncut = NULL
    while not ends_block(op):
        instruction_ends = op.acct != (op - 1).acct
        op += 1
        if instruction_ends and (one or cpu.acct + <int64_t>(op - 1).acct >= cpu.budget_end):
            break
    cut_before(cpu, op)
    if cpu.cut == NULL:
        return
    # Host code that goes over the cut gives way to the handler that it stands in for.
    while op != first:
        op -= 1
        if own_handler(cpu, op) != op.fn:
            cpu.uncut = op
            cpu.uncut_handler = op.fn
            op.fn = own_handler(cpu, op)
            return


cdef void cut_after(Cpu *cpu, Op *op) noexcept nogil:
    while op.acct == (op - 1).acct:  # a guard, or the address that PUSH and POP of memory go by
        op += 1
    cut_before(cpu, op + 1)


cdef void mend_cut(Cpu *cpu) noexcept nogil:
    # Where the block was dropped meanwhile, what stands there now stays.
    if cpu.cut.fn == come_back:
        cpu.cut.fn = cpu.cut_handler
    cpu.cut = NULL
    if cpu.uncut != NULL:
        if cpu.uncut.fn != cpu.stale:
            cpu.uncut.fn = cpu.uncut_handler
        cpu.uncut = NULL
