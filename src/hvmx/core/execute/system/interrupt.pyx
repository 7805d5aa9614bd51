# cython: language_level=3
from libc.stdint cimport int16_t, int32_t, int64_t, uint16_t, uint32_t, uint64_t

from hvmx.core.state.insn cimport FORM_I, FORM_NONE, FORM_R_RM
from hvmx.core.exit.door cimport describe_exit, event_exit, instruction_exit
from hvmx.core.pipeline.hot cimport charge
from hvmx.core.pipeline.paths cimport begin_at, cycles_now, drain_pipeline
from hvmx.core.execute.system.frame cimport *
from hvmx.core.memory.mmu cimport *
from hvmx.core.memory.segmentation cimport linear, update_mode
from hvmx.core.state.ops cimport *
from hvmx.core.execute.system.segment cimport *
from hvmx.core.state.state cimport *
from hvmx.core.state.timeline cimport note_entry
from hvmx.core.execute.system.task cimport SWITCH_INTERRUPT, switch_task
from hvmx.core.execute.system.transfer cimport load_code_and_stack

# Exceptions that push an error code (SDM vol. 3, table 6-1).
cdef uint32_t WITH_ERROR = (1 << VEC_DF | 1 << VEC_TS | 1 << VEC_NP | 1 << VEC_SS | 1 << VEC_GP | 1 << VEC_PF
                            | 1 << VEC_AC)
cdef uint32_t CONTRIBUTORY = 1 << VEC_DE | 1 << VEC_TS | 1 << VEC_NP | 1 << VEC_SS | 1 << VEC_GP
# Traps and aborts, which push RF clear: nothing returns to the instruction itself. #DB pushes it set for breakpoints
# only, in debug_fault().
cdef uint32_t NOT_FAULTS = 1 << VEC_DB | 1 << VEC_NMI | 1 << VEC_BP | 1 << VEC_OF | 1 << VEC_DF | 1 << VEC_MC
cdef uint64_t DR6_BREAKPOINTS = 0xf
# An exception during the delivery of another that makes no double fault is delivered in turn, and so on: on a
# processor possibly without end. After this many, control returns to the run loop, which checks its limits, and the
# instruction is started again.
cdef enum:
    MOST_SERIAL = 8
cdef uint32_t[4] V86_SEGMENTS = [SEG_GS, SEG_FS, SEG_DS, SEG_ES]  # in the order of their pushes


# --- from exception to handler --------------------------------------------------------------------------------------------
cdef inline bint among(uint32_t vectors, uint32_t vector) noexcept nogil:
    """Is a vector in a set of exceptions? Exit handlers may inject any vector: those from 32 on are in none."""
    return vector < 32 and (vectors >> vector) & 1


cdef bint makes_double_fault(uint32_t first, uint32_t second) noexcept nogil:
    """SDM vol. 3, table 6-5."""
    if first == VEC_PF:
        return second == VEC_PF or among(CONTRIBUTORY, second)
    return among(CONTRIBUTORY, first) and among(CONTRIBUTORY, second)


# The exit that the exception bitmap asks for. True: deliver the exception that is now in cpu.fault_vector; False: the
# exit handler has dealt with it.
cdef bint passes_exception_bitmap(Cpu *cpu) noexcept nogil:
    cdef uint32_t vector = cpu.fault_vector
    cdef uint64_t qualification = 0, linear_address = 0
    if not among(cpu.exception_bitmap, vector):
        return True
    if vector == VEC_PF:
        qualification = linear_address = cpu.cr2
    elif vector == VEC_DB:
        qualification = cpu.fault_dr6
    describe_exit(cpu, vector, 0, 0, False, qualification)
    cpu.exit.error_code = cpu.fault_error
    cpu.exit.linear = linear_address
    if event_exit(cpu, EXIT_REASON_EXCEPTION_NMI) == EXIT_INJECTED and cpu.fault == FAULT_EXCEPTION:
        cpu.fault = FAULT_NONE  # injected by the handler: this exception, or a different one
        return True
    return False


cdef void shut_down(Cpu *cpu) noexcept nogil:
    cpu.fault = FAULT_NONE
    describe_exit(cpu, 0, 0, 0, False, 0)
    if event_exit(cpu, EXIT_REASON_TRIPLE_FAULT) != EXIT_RAISED and cpu.stop == STOP_NONE:
        cpu.stop = STOP_SHUTDOWN


# For a crash report.
cdef void remember_exception(Cpu *cpu, uint32_t vectoring) noexcept nogil:
    cdef PastException *past = &cpu.past_exceptions[cpu.past_exception_count % PAST_EXCEPTIONS]
    cpu.past_exception_count += 1
    past.time = cycles_now(cpu, NULL)
    past.rip = cpu.rip
    past.address = cpu.cr2 if cpu.fault_vector == VEC_PF else 0
    past.vector = cpu.fault_vector
    past.error = cpu.fault_error
    past.vectoring = vectoring


# A handler raised: the exceptions of this delivery come again, and are counted and paid for then.
cdef void take_back_exceptions(Cpu *cpu, uint32_t count) noexcept nogil:
    cpu.exceptions -= count
    charge(cpu, CHARGE_EXCEPTION, -<int64_t>count, -<int64_t>(count * <uint64_t>cpu.exception_cost))


cdef void deliver_exception(Cpu *cpu) noexcept nogil:
    deliver_in_place_of(cpu, 0)


# `vectoring`: the event during whose delivery the exception was raised, or 0.
cdef void deliver_in_place_of(Cpu *cpu, uint32_t vectoring) noexcept nogil:
    cdef uint32_t first, source, serial
    cpu.fault = FAULT_NONE
    cpu.shadow = 0
    for serial in range(MOST_SERIAL):
        first = cpu.fault_vector
        if not passes_exception_bitmap(cpu):
            if cpu.fault == FAULT_ABORT:
                take_back_exceptions(cpu, serial)
            elif first == VEC_DB:
                take_conditions(cpu)
            return
        remember_exception(cpu, vectoring)
        if first == VEC_DB:
            take_conditions(cpu)
        cpu.exceptions += 1
        drain_pipeline(cpu)
        charge(cpu, CHARGE_EXCEPTION, 1, cpu.exception_cost)
        if cpu.pv != NULL:
            deliver_to_pv(cpu)
            return
        first = cpu.fault_vector
        source = SOURCE_EXTERNAL
        if among(WITH_ERROR, first):
            source |= SOURCE_ERROR
        if first < 32 and not among(NOT_FAULTS, first):
            source |= SOURCE_FAULT
        if first == VEC_DB:
            cpu.dr[7] &= ~<uint64_t>0x2000  # general detect (SDM vol. 3, 17.2.4)
        if enter_handler(cpu, NULL, first, source, cpu.fault_error, cpu.rip):
            note_entry(cpu, SPAN_EXCEPTION, first, cpu.cr2 if first == VEC_PF else cpu.fault_error)
            return
        if cpu.fault == FAULT_ABORT:
            take_back_exceptions(cpu, serial + 1)
            return
        cpu.fault = FAULT_NONE
        vectoring = first | VECTORING_EXCEPTION | VECTORING_VALID
        if first == VEC_DF and (cpu.fault_vector == VEC_PF or among(CONTRIBUTORY, cpu.fault_vector)):
            remember_exception(cpu, vectoring)
            shut_down(cpu)
            if cpu.fault == FAULT_ABORT:
                take_back_exceptions(cpu, serial + 1)
            return
        if makes_double_fault(first, cpu.fault_vector):
            remember_exception(cpu, vectoring)
            cpu.fault_vector = VEC_DF
            cpu.fault_error = 0


# In a PV guest exceptions go to the hypervisor first.
cdef void deliver_to_pv(Cpu *cpu) noexcept nogil:
    if cpu.fault_vector == VEC_GP and cpu.fault_error == 0 and cpu.pv_privileged(cpu, cpu.rip) == 0:
        return
    cpu.pv_exception(cpu, cpu.fault_vector, cpu.fault_error, cpu.cr2)


cdef void deliver_event(Cpu *cpu, uint32_t event) noexcept nogil:
    """An interrupt or NMI between instructions; an exception that its delivery raises is delivered in its place.

    If an exit handler raises a Python exception, the delivery is aborted, and started again when the guest continues.
    """
    cpu.vectoring = 0
    cpu.interrupts += 1
    drain_pipeline(cpu)
    charge(cpu, CHARGE_INTERRUPT, 1, cpu.exception_cost)
    cpu.shadow = 0
    if enter_handler(cpu, NULL, event & 0xff, SOURCE_EXTERNAL, 0, cpu.rip):
        note_entry(cpu, SPAN_INTERRUPT, event & 0xff, 0)
    elif cpu.fault == FAULT_EXCEPTION:
        deliver_in_place_of(cpu, event | VECTORING_VALID)
    if cpu.fault == FAULT_ABORT:
        cpu.vectoring = event | VECTORING_VALID
        cpu.interrupts -= 1
        charge(cpu, CHARGE_INTERRUPT, -1, -<int64_t>cpu.exception_cost)


cdef void deliver_interrupt(Cpu *cpu, uint32_t vector) noexcept nogil:
    deliver_event(cpu, vector)


cdef void deliver_nmi(Cpu *cpu) noexcept nogil:
    cpu.fault_vector = VEC_NMI
    cpu.fault_error = 0
    if passes_exception_bitmap(cpu):
        cpu.nmi |= NMI_BLOCKED
        deliver_event(cpu, VEC_NMI | VECTORING_NMI)
    elif cpu.fault == FAULT_ABORT:
        cpu.pending |= PEND_NMI


cdef void redeliver_event(Cpu *cpu) noexcept nogil:
    deliver_event(cpu, cpu.vectoring & ~VECTORING_VALID)


# --- debug exceptions -----------------------------------------------------------------------------------------------------
cdef void debug_conditions(Cpu *cpu, uint64_t conditions) noexcept nogil:
    """DR6 for a #DB, with what is pending: its B0 to B3 are those of the breakpoints that were met this time."""
    cpu.fault_dr6 = conditions | cpu.dr6_pending
    cpu.dr[6] = (cpu.dr[6] & ~DR6_BREAKPOINTS) | cpu.fault_dr6


cdef void take_conditions(Cpu *cpu) noexcept nogil:
    """The #DB has reported these conditions: they are no longer pending."""
    cpu.dr6_pending &= ~cpu.fault_dr6
    cpu.fault_dr6 = 0
    if not cpu.dr6_pending:
        cpu.pending &= ~<uint32_t>PEND_TRAP


cdef void debug_fault(Cpu *cpu, Op *op, uint64_t conditions) noexcept nogil:
    debug_conditions(cpu, conditions)
    fault(cpu, op, VEC_DB, 0)


cdef void debug_trap(Cpu *cpu) noexcept nogil:
    debug_conditions(cpu, 0)
    cpu.halted = 0
    cpu.fault_vector = VEC_DB
    cpu.fault_error = 0
    deliver_exception(cpu)
    if cpu.fault == FAULT_ABORT:
        cpu.pending |= PEND_TRAP


# --- through the tables ---------------------------------------------------------------------------------------------------
cdef bint enter_handler(Cpu *cpu, Op *op, uint32_t vector, uint32_t source, uint32_t error,
                        uint64_t return_ip) noexcept nogil:
    if not cpu.cr0 & CR0_PE:
        return enter_real(cpu, op, vector, source, return_ip)
    if cpu.efer & EFER_LMA:
        return enter_long(cpu, op, vector, source, error, return_ip)
    return enter_protected(cpu, op, vector, source, error, return_ip)


# SDM vol. 3, 17.3.1.1.
cdef inline uint64_t pushed_flags(Cpu *cpu, uint32_t source) noexcept nogil:
    return read_rflags(cpu) | FL_RF if source & SOURCE_FAULT else read_rflags(cpu)


cdef bint enter_real(Cpu *cpu, Op *op, uint32_t vector, uint32_t source, uint64_t return_ip) noexcept nogil:
    cdef Frame frame
    cdef uint64_t entry
    cdef uint64_t flags = pushed_flags(cpu, source)
    if vector * 4 + 3 > cpu.idtr.limit:
        fault(cpu, op, VEC_GP, vector * 8 + 2 + (source & SOURCE_EXTERNAL))
        return False
    entry = system_load(cpu, op, cpu.idtr.base + vector * 4, 4)
    if cpu.fault:
        return False
    current_frame(cpu, &frame)
    if (not frame_push(cpu, op, &frame, 2, flags) or not frame_push(cpu, op, &frame, 2, cpu.seg[SEG_CS].selector)
            or not frame_push(cpu, op, &frame, 2, return_ip)):
        return False
    cpu.r[REG_RSP] = frame.pointer
    cpu.seg[SEG_CS].selector = <uint16_t>(entry >> 16)
    cpu.seg[SEG_CS].base = (entry >> 16) << 4
    cpu.rflags &= ~<uint64_t>(FL_IF | FL_TF | FL_RF | FL_AC)
    cpu.rip = entry & 0xffff
    update_mode(cpu)
    return True


# The gate of a vector, after all checks including that of its present bit. `size` is that of an IDT entry.
cdef bint fetch_gate(Cpu *cpu, Op *op, uint32_t vector, uint32_t source, uint32_t size, uint64_t *gate) noexcept nogil:
    cdef uint32_t ext = source & SOURCE_EXTERNAL
    cdef uint32_t code = vector * 8 + 2 + ext
    cdef uint32_t kind
    if vector * size + size - 1 > cpu.idtr.limit:
        fault(cpu, op, VEC_GP, code)
        return False
    gate[0] = system_load(cpu, op, cpu.idtr.base + vector * size, 8)
    if cpu.fault:
        return False
    kind = descriptor_access(gate[0]) & (AR_S | AR_TYPE)
    if (kind != TYPE_INTERRUPT_GATE32 and kind != TYPE_TRAP_GATE32
            and (size == 16 or kind != TYPE_TASK_GATE and kind != TYPE_INTERRUPT_GATE16 and kind != TYPE_TRAP_GATE16)
            or not ext and descriptor_dpl(gate[0]) < cpu.cpl):
        fault(cpu, op, VEC_GP, code)
        return False
    if not descriptor_access(gate[0]) & AR_P:
        fault(cpu, op, VEC_NP, code)
        return False
    return True


# The code segment that a gate points to, and the privilege level at which the handler will run.
cdef bint fetch_handler_code(Cpu *cpu, Op *op, uint32_t selector, uint32_t ext, uint64_t *raw,
                             uint32_t *level) noexcept nogil:
    cdef uint32_t access
    if not selector & 0xfffc:
        fault(cpu, op, VEC_GP, ext)
        return False
    if not fetch_descriptor(cpu, op, selector, VEC_GP, ext, raw):
        return False
    access = descriptor_access(raw[0])
    level[0] = cpu.cpl if is_conforming(access) else descriptor_dpl(raw[0])
    if (not is_code(access) or descriptor_dpl(raw[0]) > cpu.cpl
            or cpu.efer & EFER_LMA and access & (AR_L | AR_DB) != AR_L
            or cpu.rflags & FL_VM and level[0] != 0):
        fault(cpu, op, VEC_GP, (selector & 0xfffc) | ext)
        return False
    if not access & AR_P:
        fault(cpu, op, VEC_NP, (selector & 0xfffc) | ext)
        return False
    return True


cdef bint commit_entry(Cpu *cpu, Op *op, Frame *frame, uint32_t selector, uint64_t raw, uint32_t level, uint64_t target,
                       bint interrupt_gate) noexcept nogil:
    cdef uint32_t index
    if not load_code_and_stack(cpu, op, selector, raw, level, frame):
        return False
    if cpu.rflags & FL_VM:
        for index in range(4):
            set_null(&cpu.seg[V86_SEGMENTS[index]], 0)
    cpu.rflags &= ~<uint64_t>(FL_TF | FL_NT | FL_VM | FL_RF)
    if interrupt_gate:
        cpu.rflags &= ~<uint64_t>FL_IF
    cpu.rip = target
    update_mode(cpu)
    return True


cdef bint enter_protected(Cpu *cpu, Op *op, uint32_t vector, uint32_t source, uint32_t error,
                          uint64_t return_ip) noexcept nogil:
    cdef uint64_t gate = 0, raw = 0, target
    cdef uint32_t ext = source & SOURCE_EXTERNAL
    cdef uint32_t kind, level = 0, selector, size, index
    cdef uint64_t flags = pushed_flags(cpu, source)
    cdef Frame frame
    cdef Segment code
    if not fetch_gate(cpu, op, vector, source, 8, &gate):
        return False
    kind = descriptor_access(gate) & AR_TYPE
    selector = gate_selector(gate)
    if kind == TYPE_TASK_GATE:
        if not switch_task(cpu, op, selector, SWITCH_INTERRUPT, ext, return_ip, flags):
            return False
        if source & SOURCE_ERROR:
            current_frame(cpu, &frame)
            frame.error = ext
            if not frame_push(cpu, NULL, &frame, 4 if cpu.seg[SEG_TR].access & TYPE_32 else 2, error):
                return False
            cpu.r[REG_RSP] = frame.pointer
        return True
    if not fetch_handler_code(cpu, op, selector, ext, &raw, &level):
        return False
    size = 4 if kind & TYPE_32 else 2
    target = gate_offset(gate) if kind & TYPE_32 else gate & 0xffff
    if level != cpu.cpl:
        if not inner_frame(cpu, op, level, ext, &frame):
            return False
    else:
        current_frame(cpu, &frame)
        frame.error = ext
    set_from_descriptor(&code, selector, raw)
    if target > code.limit:
        fault(cpu, op, VEC_GP, ext)
        return False
    if cpu.rflags & FL_VM:
        for index in range(4):
            if not frame_push(cpu, op, &frame, size, cpu.seg[V86_SEGMENTS[index]].selector):
                return False
    if level != cpu.cpl and (not frame_push(cpu, op, &frame, size, cpu.seg[SEG_SS].selector)
                             or not frame_push(cpu, op, &frame, size, cpu.r[REG_RSP])):
        return False
    if (not frame_push(cpu, op, &frame, size, flags) or not frame_push(cpu, op, &frame, size, cpu.seg[SEG_CS].selector)
            or not frame_push(cpu, op, &frame, size, return_ip)
            or source & SOURCE_ERROR and not frame_push(cpu, op, &frame, size, error)):
        return False
    return commit_entry(cpu, op, &frame, selector, raw, level, target, not kind & 1)


cdef bint enter_long(Cpu *cpu, Op *op, uint32_t vector, uint32_t source, uint32_t error,
                     uint64_t return_ip) noexcept nogil:
    cdef uint64_t gate = 0, raw = 0, target
    cdef uint32_t ext = source & SOURCE_EXTERNAL
    cdef uint32_t level = 0, selector, ist
    cdef Frame frame
    if not fetch_gate(cpu, op, vector, source, 16, &gate):
        return False
    target = system_load(cpu, op, cpu.idtr.base + vector * 16 + 8, 4)
    if cpu.fault:
        return False
    target = target << 32 | gate_offset(gate)
    selector = gate_selector(gate)
    if not fetch_handler_code(cpu, op, selector, ext, &raw, &level):
        return False
    ist = <uint32_t>(gate >> 32) & 7
    if ist or level != cpu.cpl:
        if not inner_frame64(cpu, op, level, 28 + 8 * ist if ist else 4 + 8 * level, ext, &frame):
            return False
    else:
        current_frame(cpu, &frame)
        frame.long_mode = True
        frame.error = ext
    if not canonical(target):
        fault(cpu, op, VEC_GP, ext)
        return False
    frame.pointer &= ~<uint64_t>0xf
    if (not frame_push(cpu, op, &frame, 8, cpu.seg[SEG_SS].selector) or not frame_push(cpu, op, &frame, 8, cpu.r[REG_RSP])
            or not frame_push(cpu, op, &frame, 8, pushed_flags(cpu, source))
            or not frame_push(cpu, op, &frame, 8, cpu.seg[SEG_CS].selector)
            or not frame_push(cpu, op, &frame, 8, return_ip)
            or source & SOURCE_ERROR and not frame_push(cpu, op, &frame, 8, error)):
        return False
    return commit_entry(cpu, op, &frame, selector, raw, level, target, not (gate >> 40) & 1)


# --- INT n, INT3, INTO, INT1, BOUND ---------------------------------------------------------------------------------------
cdef void enter_software(Cpu *cpu, Op *op, uint32_t vector, uint32_t source, uint32_t span) noexcept nogil:
    if enter_handler(cpu, op, vector, source, 0, next_ip(op)):
        account(cpu, op)
        note_entry(cpu, span, vector, 0)
        cpu.entered = 1


cdef void software_exception(Cpu *cpu, Op *op, uint32_t vector, uint32_t source, uint64_t qualification) noexcept nogil:
    if (cpu.exception_bitmap >> vector) & 1:
        describe_exit(cpu, vector, 0, 0, False, qualification)
        if (instruction_exit(cpu, op, EXIT_REASON_EXCEPTION_NMI) != EXIT_INJECTED or cpu.fault != FAULT_EXCEPTION
                or cpu.fault_vector != vector):
            return
        # The handler has injected it: continue as if there had been no exit.
        cpu.fault = FAULT_NONE
        begin_at(cpu, op)
    if cpu.pv != NULL:
        account(cpu, op)
        cpu.rip = next_ip(op)
        cpu.pv_exception(cpu, vector, 0, 0)
        return
    enter_software(cpu, op, vector, source, SPAN_EXCEPTION)


cdef void int_n(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint32_t vector = immediate8(op)
    if cpu.rflags & FL_VM and cpu.rflags & FL_IOPL != FL_IOPL:
        fault(cpu, op, VEC_GP, 0)
    elif cpu.pv != NULL:
        fault(cpu, op, VEC_GP, vector * 8 + 2)
    else:
        enter_software(cpu, op, vector, 0, SPAN_SOFTWARE_INTERRUPT)


cdef void int3(Cpu *cpu, Op *op) noexcept nogil:
    software_exception(cpu, op, VEC_BP, 0, 0)


cdef void into(Cpu *cpu, Op *op) noexcept nogil:
    if flag_of(cpu):
        software_exception(cpu, op, VEC_OF, 0, 0)
    else:
        leave(cpu, op)


# Traps that MOV SS has kept pending are part of this #DB; breakpoints met during its delivery come after it.
cdef void int1(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint64_t conditions = cpu.dr6_pending, before = cpu.dr[6]
    if conditions:
        debug_conditions(cpu, 0)
        take_conditions(cpu)
    software_exception(cpu, op, VEC_DB, SOURCE_EXTERNAL, conditions)
    if conditions and cpu.fault:
        cpu.dr[6] = before
        cpu.dr6_pending |= conditions
        cpu.pending |= PEND_TRAP


# As on Intel's processors, the index is compared with the lower bound before the upper one is read.
cdef void bound(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint32_t size = operand_bytes(op)
    cdef int64_t index, lower, upper
    cdef uint64_t at
    if size == 2:
        index = <int16_t>reg16(cpu, op.d)[0]
        lower = <int16_t>load16(cpu, op, cpu.ea)
    else:
        index = <int32_t>reg32(cpu, op.d)[0]
        lower = <int32_t>load32(cpu, op, cpu.ea)
    if cpu.fault:
        return
    if index < lower:
        fault(cpu, op, VEC_BR, 0)
        return
    at = linear(cpu, op, op.seg, cpu.ea_offset + size, size, False)
    if cpu.fault:
        return
    if size == 2:
        upper = <int16_t>load16(cpu, op, at)
    else:
        upper = <int32_t>load32(cpu, op, at)
    if cpu.fault:
        return
    if index > upper:
        fault(cpu, op, VEC_BR, 0)
        return
    leave(cpu, op)


register_handler("int", FORM_I, 0, ADDRESS_NONE, int_n)
register_handler("int3", FORM_NONE, 0, ADDRESS_NONE, int3)
register_handler("into", FORM_NONE, 0, ADDRESS_NONE, into)
register_handler("int1", FORM_NONE, 0, ADDRESS_NONE, int1)
register_handler("bound", FORM_R_RM, 0, ADDRESS_EA, bound)
