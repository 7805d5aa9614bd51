# cython: language_level=3
"""Far JMP, CALL and RET (SDM vol. 3, 5.8)."""
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from hvmx.core.execute.system.counters cimport leave_level
from hvmx.core.state.insn cimport FORM_I, FORM_I_I, FORM_NONE, FORM_RM
from hvmx.core.execute.system.frame cimport *
from hvmx.core.memory.mmu cimport *
from hvmx.core.memory.segmentation cimport update_mode
from hvmx.core.state.ops cimport *
from hvmx.core.execute.system.segment cimport *
from hvmx.core.state.state cimport *
from hvmx.core.execute.system.task cimport SWITCH_CALL, SWITCH_JUMP, switch_task


cdef inline void set_real_code(Cpu *cpu, uint32_t selector) noexcept nogil:
    if cpu.rflags & FL_VM:
        set_v86(&cpu.seg[SEG_CS], selector)
    else:
        cpu.seg[SEG_CS].selector = <uint16_t>selector
        cpu.seg[SEG_CS].base = <uint64_t>selector << 4


cdef bint is_64_bit(Cpu *cpu, uint64_t raw) noexcept nogil:
    return cpu.efer & EFER_LMA and descriptor_access(raw) & AR_L


# Intel's processors truncate a 64-bit target to 32 bits if the segment is not a 64-bit one.
cdef bint check_target(Cpu *cpu, Op *op, uint64_t raw, uint64_t *target) noexcept nogil:
    cdef Segment code
    set_from_descriptor(&code, 0, raw)
    if is_64_bit(cpu, raw):
        if canonical(target[0]):
            return True
    else:
        target[0] = <uint32_t>target[0]
        if target[0] <= code.limit:
            return True
    fault(cpu, op, VEC_GP, 0)
    return False


cdef bint present_code(Cpu *cpu, Op *op, uint32_t selector, uint64_t raw) noexcept nogil:
    """Checks of every new code segment: it must be present, and not have both L and D set."""
    cdef uint32_t access = descriptor_access(raw)
    if cpu.efer & EFER_LMA and access & (AR_L | AR_DB) == (AR_L | AR_DB):
        fault(cpu, op, VEC_GP, selector & 0xfffc)
        return False
    if not access & AR_P:
        fault(cpu, op, VEC_NP, selector & 0xfffc)
        return False
    return True


# Direct far transfer to a code segment, at the present privilege level.
cdef bint check_direct_code(Cpu *cpu, Op *op, uint32_t selector, uint64_t raw) noexcept nogil:
    cdef uint32_t access = descriptor_access(raw)
    cdef uint32_t dpl = descriptor_dpl(raw)
    if dpl > cpu.cpl if is_conforming(access) else selector & 3 > cpu.cpl or dpl != cpu.cpl:
        fault(cpu, op, VEC_GP, selector & 0xfffc)
        return False
    return present_code(cpu, op, selector, raw)


# The last step: load CS, and SS:rSP from `frame` (NULL: the stack stays), unless marking their descriptors faults.
cdef void go_to_code(Cpu *cpu, Op *op, uint32_t selector, uint64_t raw, uint32_t level, uint64_t target,
                     Frame *frame) noexcept nogil:
    if load_code_and_stack(cpu, op, selector, raw, level, frame):
        update_mode(cpu)
        leave_to(cpu, op, target)


cdef bint load_code_and_stack(Cpu *cpu, Op *op, uint32_t selector, uint64_t raw, uint32_t level,
                              Frame *frame) noexcept nogil:
    cdef Segment code
    set_from_descriptor(&code, (selector & 0xfffc) | level, raw)
    if not mark_accessed(cpu, op, &code) or frame != NULL and not mark_accessed(cpu, op, &frame.ss):
        return False
    leave_level(cpu, op)
    cpu.cpl = <uint8_t>level
    cpu.seg[SEG_CS] = code
    if frame != NULL:
        cpu.seg[SEG_SS] = frame.ss
        cpu.r[REG_RSP] = frame.pointer
    return True


cdef inline bint push_return(Cpu *cpu, Op *op, Frame *frame, uint32_t size) noexcept nogil:
    return (frame_push(cpu, op, frame, size, cpu.seg[SEG_CS].selector)
            and frame_push(cpu, op, frame, size, next_ip(op)))


# --- JMP and CALL ---------------------------------------------------------------------------------------------------------
cdef void far_transfer(Cpu *cpu, Op *op, uint32_t selector, uint64_t target, bint is_call) noexcept nogil:
    cdef uint32_t size = operand_bytes(op)
    cdef uint64_t raw = 0
    cdef Frame frame
    if real_or_v86(cpu):
        if target > cpu.seg[SEG_CS].limit or cpu.rflags & FL_VM and target > 0xffff:
            fault(cpu, op, VEC_GP, 0)
            return
        if is_call:
            current_frame(cpu, &frame)
            if not push_return(cpu, op, &frame, size):
                return
            cpu.r[REG_RSP] = frame.pointer
        set_real_code(cpu, selector)
        update_mode(cpu)
        leave_to(cpu, op, target)
        return
    if not selector & 0xfffc:
        fault(cpu, op, VEC_GP, 0)
        return
    if not fetch_descriptor(cpu, op, selector, VEC_GP, 0, &raw):
        return
    if not descriptor_access(raw) & AR_S:
        through_system_descriptor(cpu, op, selector, raw, is_call)
        return
    if not is_code(descriptor_access(raw)):
        fault(cpu, op, VEC_GP, selector & 0xfffc)
        return
    if not check_direct_code(cpu, op, selector, raw) or not check_target(cpu, op, raw, &target):
        return
    if is_call:
        current_frame(cpu, &frame)
        frame.long_mode = frame.long_mode and is_64_bit(cpu, raw)  # compatibility-mode code has 32-bit stack pointers
        if not push_return(cpu, op, &frame, size):
            return
    go_to_code(cpu, op, selector, raw, cpu.cpl, target, &frame if is_call else NULL)


cdef void through_system_descriptor(Cpu *cpu, Op *op, uint32_t selector, uint64_t raw, bint is_call) noexcept nogil:
    cdef uint32_t kind = descriptor_access(raw) & AR_TYPE
    cdef uint32_t dpl = descriptor_dpl(raw)
    cdef bint long_mode = cpu.efer & EFER_LMA != 0
    cdef bint known = kind == TYPE_CALL_GATE32 or not long_mode and (
        kind == TYPE_CALL_GATE16 or kind == TYPE_TASK_GATE or kind == TYPE_TSS16 or kind == TYPE_TSS32)
    if not known or dpl < cpu.cpl or dpl < selector & 3:
        fault(cpu, op, VEC_GP, selector & 0xfffc)
        return
    if not descriptor_access(raw) & AR_P:
        fault(cpu, op, VEC_NP, selector & 0xfffc)
        return
    if kind == TYPE_CALL_GATE16 or kind == TYPE_CALL_GATE32:
        through_call_gate(cpu, op, selector, raw, is_call)
        return
    if kind == TYPE_TASK_GATE:
        selector = gate_selector(raw)
    if switch_task(cpu, op, selector, SWITCH_CALL if is_call else SWITCH_JUMP, 0, next_ip(op), read_rflags(cpu)):
        account(cpu, op)


cdef void through_call_gate(Cpu *cpu, Op *op, uint32_t gate_at, uint64_t gate, bint is_call) noexcept nogil:
    cdef bint long_mode = cpu.efer & EFER_LMA != 0
    cdef uint32_t selector = gate_selector(gate)
    cdef uint32_t size = 8 if long_mode else 4 if descriptor_access(gate) & TYPE_32 else 2
    cdef uint64_t target = gate & 0xffff if size == 2 else gate_offset(gate)
    cdef uint64_t raw = 0, upper = 0
    cdef uint32_t access, level, dpl
    cdef Frame frame
    if long_mode:
        if not fetch_upper(cpu, op, gate_at, VEC_GP, 0, &upper):
            return
        target |= upper << 32
    if not selector & 0xfffc:
        fault(cpu, op, VEC_GP, 0)
        return
    if not fetch_descriptor(cpu, op, selector, VEC_GP, 0, &raw):
        return
    access = descriptor_access(raw)
    dpl = descriptor_dpl(raw)
    if (not is_code(access) or dpl > cpu.cpl or not is_call and not is_conforming(access) and dpl != cpu.cpl
            or long_mode and access & (AR_L | AR_DB) != AR_L):
        fault(cpu, op, VEC_GP, selector & 0xfffc)
        return
    if not present_code(cpu, op, selector, raw):
        return
    level = cpu.cpl if is_conforming(access) else dpl
    if not is_call:
        if check_target(cpu, op, raw, &target):
            go_to_code(cpu, op, selector, raw, level, target, NULL)
        return
    if level == cpu.cpl:
        current_frame(cpu, &frame)
    elif not to_inner_stack(cpu, op, level, size, <uint32_t>(gate >> 32) & 0x1f, &frame):
        return
    if check_target(cpu, op, raw, &target) and push_return(cpu, op, &frame, size):
        go_to_code(cpu, op, selector, raw, level, target, &frame)


# Push the outer SS:rSP on the inner stack and, unless it is a 64-bit gate, copy `count` parameters.
cdef bint to_inner_stack(Cpu *cpu, Op *op, uint32_t level, uint32_t size, uint32_t count, Frame *frame) noexcept nogil:
    cdef Frame outer
    cdef uint64_t value = 0
    cdef uint32_t index
    if size == 8:
        return (inner_frame64(cpu, op, level, 4 + 8 * level, 0, frame)
                and frame_push(cpu, op, frame, 8, cpu.seg[SEG_SS].selector)
                and frame_push(cpu, op, frame, 8, cpu.r[REG_RSP]))
    if (not inner_frame(cpu, op, level, 0, frame) or not frame_push(cpu, op, frame, size, cpu.seg[SEG_SS].selector)
            or not frame_push(cpu, op, frame, size, cpu.r[REG_RSP])):
        return False
    for index in range(count):
        current_frame(cpu, &outer)
        frame_move(&outer, <int64_t>(size * (count - 1 - index)))
        if not frame_pop(cpu, op, &outer, size, &value) or not frame_push(cpu, op, frame, size, value):
            return False
    return True


cdef void far_indirect(Cpu *cpu, Op *op, bint is_call) noexcept nogil:
    cdef uint32_t selector = 0
    cdef uint64_t target = 0
    if read_far_pointer(cpu, op, &selector, &target):
        far_transfer(cpu, op, selector, target, is_call)


cdef inline uint64_t immediate_target(Op *op) noexcept nogil:
    return immediate16(op) if operand_size(op) == SIZE_16 else <uint32_t>op.imm


cdef void jmp_far(Cpu *cpu, Op *op) noexcept nogil:
    far_transfer(cpu, op, <uint16_t>op.disp, immediate_target(op), False)


cdef void jmp_far_m(Cpu *cpu, Op *op) noexcept nogil:
    far_indirect(cpu, op, False)


cdef void call_far(Cpu *cpu, Op *op) noexcept nogil:
    far_transfer(cpu, op, <uint16_t>op.disp, immediate_target(op), True)


cdef void call_far_m(Cpu *cpu, Op *op) noexcept nogil:
    far_indirect(cpu, op, True)


# --- RET ------------------------------------------------------------------------------------------------------------------
cdef bint fetch_return_code(Cpu *cpu, Op *op, uint32_t selector, uint64_t *raw) noexcept nogil:
    cdef uint32_t access, dpl
    if not selector & 0xfffc:
        fault(cpu, op, VEC_GP, 0)
        return False
    if not fetch_descriptor(cpu, op, selector, VEC_GP, 0, raw):
        return False
    access = descriptor_access(raw[0])
    dpl = descriptor_dpl(raw[0])
    if (not is_code(access) or selector & 3 < cpu.cpl
            or (dpl > selector & 3 if is_conforming(access) else dpl != selector & 3)):
        fault(cpu, op, VEC_GP, selector & 0xfffc)
        return False
    return present_code(cpu, op, selector, raw[0])


cdef bint fetch_return_stack(Cpu *cpu, Op *op, uint32_t selector, uint32_t cpl, bint to_64, Frame *frame) noexcept nogil:
    cdef uint64_t raw = 0
    if not selector & 0xfffc and to_64 and cpl != 3 and selector & 3 == cpl:
        set_null(&frame.ss, selector)
        frame.ss.access |= cpl << 5
    else:
        if not check_stack_segment(cpu, op, selector, cpl, VEC_GP, 0, &raw):
            return False
        set_from_descriptor(&frame.ss, selector, raw)
    frame.cpl = cpl
    frame.long_mode = to_64
    return True


# In the order of processors: CS, then rIP. CR2 shows it if one of the pages is not present.
cdef bint pop_return(Cpu *cpu, Op *op, Frame *frame, uint32_t size, uint64_t *target,
                            uint64_t *selector) noexcept nogil:
    cdef Frame after = frame[0]
    frame_move(&after, size)
    if not frame_pop(cpu, op, &after, size, selector) or not frame_pop(cpu, op, frame, size, target):
        return False
    selector[0] &= 0xffff
    frame[0] = after
    return True


cdef void ret_far(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint32_t size = operand_bytes(op)
    cdef int64_t released = immediate16(op)
    cdef uint64_t target = 0, selector = 0, pointer = 0, stack_selector = 0, raw = 0
    cdef uint32_t level
    cdef bint outward
    cdef Frame frame
    current_frame(cpu, &frame)
    if not pop_return(cpu, op, &frame, size, &target, &selector):
        return
    if real_or_v86(cpu):
        if target > cpu.seg[SEG_CS].limit:
            fault(cpu, op, VEC_GP, 0)
            return
        frame_move(&frame, released)
        cpu.r[REG_RSP] = frame.pointer
        set_real_code(cpu, <uint32_t>selector)
        update_mode(cpu)
        leave_to(cpu, op, target)
        return
    if not fetch_return_code(cpu, op, <uint32_t>selector, &raw) or not check_target(cpu, op, raw, &target):
        return
    level = selector & 3
    outward = level != cpu.cpl
    frame_move(&frame, released)
    if outward:
        if not frame_pop(cpu, op, &frame, size, &pointer) or not frame_pop(cpu, op, &frame, size, &stack_selector):
            return
        if not fetch_return_stack(cpu, op, stack_selector & 0xffff, level, is_64_bit(cpu, raw), &frame):
            return
        frame.pointer = cpu.r[REG_RSP]
        frame_move(&frame, <int64_t>(pointer + <uint64_t>released - frame.pointer))
    go_to_code(cpu, op, <uint32_t>selector, raw, level, target, &frame)
    if outward and cpu.fault == 0:
        drop_inner_segments(cpu)


register_handler("jmp_far", FORM_I_I, 0, ADDRESS_NONE, jmp_far)
register_handler("jmp_far", FORM_RM, 0, ADDRESS_EA, jmp_far_m)
register_handler("call_far", FORM_I_I, 0, ADDRESS_NONE, call_far)
register_handler("call_far", FORM_RM, 0, ADDRESS_EA, call_far_m)
register_handler("ret_far", FORM_I, 0, ADDRESS_NONE, ret_far)
register_handler("ret_far", FORM_NONE, 0, ADDRESS_NONE, ret_far)
