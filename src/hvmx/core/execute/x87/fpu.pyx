# cython: language_level=3
"""x87 and SSE control state: the instructions with which kernels detect and initialise the floating-point unit."""
from libc.stdint cimport uint16_t, uint32_t

from hvmx.core.state.insn cimport FORM_NONE, FORM_RM
from hvmx.core.memory.mmu cimport *
from hvmx.core.state.mxcsr cimport settle_mxcsr
from hvmx.core.state.ops cimport *
from hvmx.core.state.state cimport *
from hvmx.core.execute.x87.x87 cimport *

cdef enum:
    FSW_EXCEPTIONS = 0x80ff   # the flags that FNCLEX clears: B, ES, SF and the six exceptions


cdef bint sse_unavailable(Cpu *cpu, Op *op) noexcept nogil:
    if cpu.cr0 & CR0_EM or not cpu.cr4 & CR4_OSFXSR:
        fault(cpu, op, VEC_UD, 0)
        return True
    if cpu.cr0 & CR0_TS:
        fault(cpu, op, VEC_NM, 0)
        return True
    return False


cdef void fninit(Cpu *cpu, Op *op) noexcept nogil:
    if not x87_usable(cpu, op):
        return
    reset_x87(cpu)
    run_next(cpu, op)


cdef void fnclex(Cpu *cpu, Op *op) noexcept nogil:
    if not x87_usable(cpu, op):
        return
    cpu.fsw &= <uint16_t>~FSW_EXCEPTIONS
    run_next(cpu, op)


# Instructions that did something on the 8087 and the 80287 only.
cdef void no_operation(Cpu *cpu, Op *op) noexcept nogil:
    if not x87_usable(cpu, op):
        return
    run_next(cpu, op)


cdef bint meet_exception(Cpu *cpu, Op *op) noexcept nogil:
    if cpu.cr0 & CR0_NE:
        fault(cpu, op, VEC_MF, 0)
        return True
    if cpu.ignne:
        return False
    # MS-DOS compatibility (SDM vol. 1, D.2): the board turns FERR# into IRQ 13.
    rewind(cpu, op)
    if cpu.on_ferr(cpu) != 0:
        cpu.fault = FAULT_ABORT
        return True
    cpu.halted = 1
    return True


cdef void fwait(Cpu *cpu, Op *op) noexcept nogil:
    if cpu.cr0 & (CR0_MP | CR0_TS) == (CR0_MP | CR0_TS):
        fault(cpu, op, VEC_NM, 0)
        return
    if exception_pending(cpu, op):
        return
    leave(cpu, op)


cdef void fnstsw_r(Cpu *cpu, Op *op) noexcept nogil:
    if not x87_usable(cpu, op):
        return
    set16(cpu, op.d, cpu.fsw)
    run_next(cpu, op)


cdef void store_word(Cpu *cpu, Op *op, uint16_t value) noexcept nogil:
    if not x87_usable(cpu, op):
        return
    store16(cpu, op, cpu.ea, value)
    if cpu.fault == 0:
        run_next(cpu, op)


cdef void fnstsw_m(Cpu *cpu, Op *op) noexcept nogil:
    store_word(cpu, op, cpu.fsw)


cdef void fnstcw(Cpu *cpu, Op *op) noexcept nogil:
    store_word(cpu, op, cpu.fcw)


cdef void fldcw(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint16_t value
    if not x87_ready(cpu, op):
        return
    value = load16(cpu, op, cpu.ea)
    if cpu.fault:
        return
    cpu.fcw = (value & 0x1f3f) | 0x40
    update_summary(cpu)
    run_next(cpu, op)


cdef void ldmxcsr(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint32_t value
    if sse_unavailable(cpu, op):
        return
    value = load32(cpu, op, cpu.ea)
    if cpu.fault:
        return
    if value & ~cpu.mxcsr_mask:
        fault(cpu, op, VEC_GP, 0)
        return
    settle_mxcsr(cpu)
    cpu.mxcsr = value
    leave(cpu, op)


cdef void stmxcsr(Cpu *cpu, Op *op) noexcept nogil:
    if sse_unavailable(cpu, op):
        return
    settle_mxcsr(cpu)
    store32(cpu, op, cpu.ea, cpu.mxcsr)
    if cpu.fault == 0:
        leave(cpu, op)


register_handler("fninit", FORM_NONE, 0, ADDRESS_NONE, fninit)
register_handler("fnclex", FORM_NONE, 0, ADDRESS_NONE, fnclex)
register_handler("fneni", FORM_NONE, 0, ADDRESS_NONE, no_operation)
register_handler("fndisi", FORM_NONE, 0, ADDRESS_NONE, no_operation)
register_handler("fnsetpm", FORM_NONE, 0, ADDRESS_NONE, no_operation)
register_handler("fwait", FORM_NONE, 0, ADDRESS_NONE, fwait)
register_handler("fnstsw", FORM_RM, 0, ADDRESS_NONE, fnstsw_r)
register_handler("fnstsw", FORM_RM, 0, ADDRESS_EA, fnstsw_m)
register_handler("fnstcw", FORM_RM, 0, ADDRESS_EA, fnstcw)
register_handler("fldcw", FORM_RM, 0, ADDRESS_EA, fldcw)
register_handler("ldmxcsr", FORM_RM, 0, ADDRESS_EA, ldmxcsr)
register_handler("stmxcsr", FORM_RM, 0, ADDRESS_EA, stmxcsr)
