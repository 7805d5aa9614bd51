# cython: language_level=3
"""IRET in all its forms (SDM vol. 2, IRET)."""
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from hvmx.core.execute.system.counters cimport leave_level
from hvmx.core.state.insn cimport FORM_NONE
from hvmx.core.execute.integer.flags cimport *
from hvmx.core.execute.system.frame cimport *
from hvmx.core.memory.mmu cimport *
from hvmx.core.state.ops cimport *
from hvmx.core.execute.system.segment cimport *
from hvmx.core.state.state cimport *
from hvmx.core.execute.system.task cimport SWITCH_RETURN, switch_task
from hvmx.core.execute.system.transfer cimport (
    check_target, fetch_return_code, fetch_return_stack, is_64_bit, load_code_and_stack, pop_return)

# Flags that IRET changes in real-address mode: all defined ones but VM, VIF, VIP.
cdef uint64_t FLAGS_REAL16 = 0x7fd5
cdef uint64_t FLAGS_REAL32 = 0x257fd5


cdef void iret(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint32_t size = operand_bytes(op)
    cdef uint32_t selector
    if UNLIKELY(cpu.nmi):  # NMIs are unblocked even if IRET faults (SDM vol. 3, 6.7.1)
        if cpu.nmi & NMI_LATCHED:
            cpu.pending |= PEND_NMI
        cpu.nmi = 0
    if not cpu.cr0 & CR0_PE:
        iret_real(cpu, op, size)
    elif cpu.rflags & FL_VM:
        if iopl(cpu) != 3:
            fault(cpu, op, VEC_GP, 0)
            return
        iret_real(cpu, op, size)
    elif cpu.rflags & FL_NT:
        if cpu.efer & EFER_LMA:
            fault(cpu, op, VEC_GP, 0)
            return
        selector = <uint32_t>system_load(cpu, op, cpu.seg[SEG_TR].base, 2)
        if cpu.fault == 0 and switch_task(cpu, op, selector, SWITCH_RETURN, 0, next_ip(op), read_rflags(cpu)):
            account(cpu, op)
    else:
        iret_protected(cpu, op, size)


# In the order of processors: the flags, then CS and rIP. CR2 shows it if one of the pages is not present.
cdef bint pop_interrupted(Cpu *cpu, Op *op, Frame *frame, uint32_t size, uint64_t *target, uint64_t *selector,
                          uint64_t *flags) noexcept nogil:
    cdef Frame after = frame[0]
    frame_move(&after, 2 * size)
    if not frame_pop(cpu, op, &after, size, flags) or not pop_return(cpu, op, frame, size, target, selector):
        return False
    frame[0] = after
    return True


cdef void iret_real(Cpu *cpu, Op *op, uint32_t size) noexcept nogil:
    cdef uint64_t target = 0, selector = 0, flags = 0
    cdef uint64_t mask = FLAGS_REAL16 if size == 2 else FLAGS_REAL32
    cdef Frame frame
    current_frame(cpu, &frame)
    if not pop_interrupted(cpu, op, &frame, size, &target, &selector, &flags):
        return
    if target > cpu.seg[SEG_CS].limit:
        fault(cpu, op, VEC_GP, 0)
        return
    cpu.r[REG_RSP] = frame.pointer
    if cpu.rflags & FL_VM:
        mask &= ~<uint64_t>FL_IOPL
        set_v86(&cpu.seg[SEG_CS], <uint16_t>selector)
    else:
        cpu.seg[SEG_CS].selector = <uint16_t>selector
        cpu.seg[SEG_CS].base = (selector & 0xffff) << 4
    load_rflags(cpu, flags, mask)
    leave_to(cpu, op, target)


cdef void iret_protected(Cpu *cpu, Op *op, uint32_t size) noexcept nogil:
    cdef uint64_t target = 0, selector = 0, flags = 0, pointer = 0, stack_selector = 0, raw = 0
    cdef uint64_t mask = FLAGS_ANYONE
    cdef uint32_t level, before = cpu.cpl
    cdef bint has_stack
    cdef Frame frame
    current_frame(cpu, &frame)
    if not pop_interrupted(cpu, op, &frame, size, &target, &selector, &flags):
        return
    if size == 4 and flags & FL_VM and cpu.cpl == 0 and not cpu.efer & EFER_LMA:
        iret_to_v86(cpu, op, &frame, target, <uint32_t>selector, flags)
        return
    if not fetch_return_code(cpu, op, <uint32_t>selector, &raw):
        return
    level = selector & 3
    has_stack = frame.long_mode or level != cpu.cpl
    if has_stack:
        if not frame_pop(cpu, op, &frame, size, &pointer) or not frame_pop(cpu, op, &frame, size, &stack_selector):
            return
        if not fetch_return_stack(cpu, op, stack_selector & 0xffff, level, is_64_bit(cpu, raw), &frame):
            return
        frame.pointer = cpu.r[REG_RSP]
        frame_move(&frame, <int64_t>(pointer - frame.pointer))
    if not check_target(cpu, op, raw, &target):
        return
    if size > 2:
        mask |= FL_RF | FL_AC | FL_ID
    if cpu.cpl <= iopl(cpu):
        mask |= FL_IF
    if cpu.cpl == 0:
        mask |= FL_IOPL
        if size > 2:
            mask |= FL_VIF | FL_VIP
    if not load_code_and_stack(cpu, op, <uint32_t>selector, raw, level, &frame):
        return
    if level != before:
        drop_inner_segments(cpu)
    load_rflags(cpu, flags, mask)
    leave_to(cpu, op, target)


cdef void iret_to_v86(Cpu *cpu, Op *op, Frame *frame, uint64_t target, uint32_t selector, uint64_t flags) noexcept nogil:
    cdef uint64_t popped[6]  # ESP, SS, ES, DS, FS, GS
    cdef uint32_t index
    for index in range(6):
        if not frame_pop(cpu, op, frame, 4, &popped[index]):
            return
    if target > 0xffff:
        fault(cpu, op, VEC_GP, 0)
        return
    leave_level(cpu, op)
    cpu.cpl = 3
    cpu.r[REG_RSP] = popped[0]
    set_v86(&cpu.seg[SEG_CS], selector)
    set_v86(&cpu.seg[SEG_SS], popped[1] & 0xffff)
    set_v86(&cpu.seg[SEG_ES], popped[2] & 0xffff)
    set_v86(&cpu.seg[SEG_DS], popped[3] & 0xffff)
    set_v86(&cpu.seg[SEG_FS], popped[4] & 0xffff)
    set_v86(&cpu.seg[SEG_GS], popped[5] & 0xffff)
    load_rflags(cpu, flags, FLAGS_REAL32 | FL_VM | FL_VIF | FL_VIP)
    leave_to(cpu, op, target)


register_handler("iret", FORM_NONE, 0, ADDRESS_NONE, iret)
