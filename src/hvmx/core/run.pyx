# cython: language_level=3
from libc.stdint cimport int64_t, uint32_t, uint64_t

from hvmx.core.decode.blocks cimport block_at_rip
from hvmx.core.memory.codecache cimport flush_code
from hvmx.core.memory.cut cimport cut_block, undo_cut
from hvmx.core.exit.door cimport describe_exit, exit_to_handler
from hvmx.core.pipeline.paths cimport begin_at
from hvmx.core.state.host_time cimport host_nanoseconds
from hvmx.core.execute.system.interrupt cimport debug_fault, debug_trap, deliver_exception, deliver_interrupt, deliver_nmi, redeliver_event
from hvmx.core.state.mxcsr cimport settle_mxcsr
from hvmx.core.state.ops cimport *
from hvmx.core.state.state cimport *
from hvmx.core.state.timeline cimport note_wait

cdef extern from "run_chain.h" nogil:
    void run_chain(Cpu *cpu, Op *op)

# The longest budget, in units of 1/CYCLE_FRACTION cycle. An instruction costs at least one unit, and so the
# instruction count in the accounting word cannot overflow.
cdef int64_t LONGEST_GRANT = (1 << ACCT_SHIFT) - (1 << 18)
# How many chains run between two readings of host time; and how much of it passes between two checks of its limits.
cdef enum:
    TURNS_PER_LOOK = 64
    NS_BETWEEN_POLLS = 10_000_000


cdef void settle(Cpu *cpu) noexcept nogil:
    cdef int64_t passed = cpu.acct - cpu.acct_start
    cpu.time += <uint64_t>passed >> ACCT_SHIFT
    cpu.instructions += <uint64_t>passed & ACCT_INSTR_MASK
    cpu.acct_start = cpu.acct


cdef inline uint64_t cycles(Cpu *cpu) noexcept nogil:
    return cpu.time // CYCLE_FRACTION


cdef inline uint64_t next_due(Cpu *cpu) noexcept nogil:
    """The next guest cycle at which something is due: a device, a look for input, or the end of the slice."""
    cdef uint64_t until = cpu.deadline if cpu.deadline < cpu.slice_end else cpu.slice_end
    return until if until < cpu.input_at else cpu.input_at


cdef inline bint due(Cpu *cpu) noexcept nogil:
    return cycles(cpu) >= next_due(cpu)


cdef inline void grant(Cpu *cpu, bint one) noexcept nogil:
    """A new budget, up to the next thing that is due.

    While Cpu.acct is negative, blocks follow each other without returning to the run loop. BLOCK_UNITS, the time in
    which all instructions of a block begin, is held back: Cpu.acct reaches 0 that much before the budget ends. From
    then on each block returns to the run loop, and is cut where the budget ends.
    """
    cdef uint64_t until = next_due(cpu)
    cdef int64_t units = LONGEST_GRANT
    if one:
        cpu.acct = cpu.budget_end = 0
    elif until - cycles(cpu) < <uint64_t>(LONGEST_GRANT // CYCLE_FRACTION):
        units = <int64_t>(until * CYCLE_FRACTION - cpu.time)
        cpu.acct = (BLOCK_UNITS - units) << ACCT_SHIFT
        cpu.budget_end = <int64_t>BLOCK_UNITS << ACCT_SHIFT
    else:
        cpu.acct = -(units << ACCT_SHIFT)
        cpu.budget_end = 0
    cpu.acct_start = cpu.acct


cdef inline bint interrupt_due(Cpu *cpu) noexcept nogil:
    return cpu.pending & PEND_INTR and cpu.rflags & FL_IF and not cpu.shadow


# An exit that does not come from an instruction. False: its handler raised an error, and nothing has happened.
cdef bint host_exit(Cpu *cpu, uint32_t reason) noexcept nogil:
    describe_exit(cpu, 0, 0, 0, False, 0)
    if exit_to_handler(cpu, reason) == EXIT_RAISED:
        cpu.stop = STOP_ERROR if cpu.stop == STOP_NONE else cpu.stop
        return False
    settle(cpu)
    return True


cdef void take_interrupt(Cpu *cpu) noexcept nogil:
    cdef int vector
    if cpu.window:
        if not host_exit(cpu, EXIT_REASON_INTERRUPT_WINDOW):
            return
        cpu.window = 0
        if cpu.fault:
            return
    vector = cpu.acknowledge(cpu)
    if vector < 0:
        return
    cpu.halted = 0
    deliver_interrupt(cpu, <uint32_t>vector)


# A device is due. On a real host a timer interrupt would take control from the running guest: hence the
# external-interrupt exit. If the device raises an error, host_interrupted keeps that exit from being taken twice.
cdef void take_deadline(Cpu *cpu) noexcept nogil:
    if not cpu.halted and cpu.controls & CTL_EXTERNAL_INTERRUPT and not cpu.host_interrupted:
        if not host_exit(cpu, EXIT_REASON_EXTERNAL_INTERRUPT):
            return
        cpu.host_interrupted = 1
    if cpu.on_deadline(cpu) == 0:
        cpu.host_interrupted = 0
    elif cpu.stop == STOP_NONE:
        cpu.stop = STOP_ERROR


# Handle signals, and check the limits of host time if enough of it has passed.
cdef bint look_at_host(Cpu *cpu) noexcept nogil:
    cdef uint64_t now
    if not cpu.held_signals[0]:
        now = host_nanoseconds()
        if now < cpu.poll_at:
            return True
        cpu.poll_at = now + NS_BETWEEN_POLLS
    if cpu.on_poll(cpu) == 0:
        return True
    if cpu.stop == STOP_NONE:
        cpu.stop = STOP_ERROR
    return False


cdef void idle(Cpu *cpu) noexcept nogil:
    """Halted: skip to the time at which something is due."""
    cdef uint64_t until = next_due(cpu) * CYCLE_FRACTION
    if not (cpu.rflags & FL_IF or cpu.pv != NULL) or cpu.deadline == ~<uint64_t>0:
        if cpu.on_idle(cpu) != 0 and cpu.stop == STOP_NONE:
            cpu.stop = STOP_HALTED
        return
    if until > cpu.time:
        note_wait(cpu, until)
        cpu.halted_time += until - cpu.time
        cpu.time = until


cdef void run(Cpu *cpu) noexcept nogil:
    cpu.stop = STOP_NONE
    while cpu.stop == STOP_NONE:
        if serve_host(cpu) and deliver_due(cpu):
            run_instructions(cpu)


cdef bint serve_host(Cpu *cpu) noexcept nogil:
    """What others than the guest want between two instructions: to stop it, to run a device, to look for input. True: the guest
    goes on; False: Cpu.stop says why it does not."""
    cpu.pending &= ~<uint32_t>PEND_BUDGET
    if cpu.stop_request:
        cpu.stop_request = 0
        cpu.stop = STOP_REQUESTED
        return False
    if not look_at_host(cpu):
        return False
    if cpu.pending & PEND_FLUSH:
        cpu.pending &= ~<uint32_t>PEND_FLUSH
        flush_code(cpu)
    if cycles(cpu) >= cpu.deadline:
        take_deadline(cpu)
        if cpu.stop != STOP_NONE:
            return False
    if cycles(cpu) >= cpu.input_at and cpu.on_input(cpu) != 0:
        cpu.stop = STOP_ERROR
        return False
    if cycles(cpu) >= cpu.slice_end:
        cpu.stop = STOP_CYCLES
        return False
    return True


cdef void deliver_one(Cpu *cpu) noexcept nogil:
    """The event that comes first (SDM vol. 3, table 6-2), if there is one."""
    if cpu.fault:
        answer_fault(cpu)  # injected between instructions: it comes before interrupts
    elif cpu.vectoring:
        redeliver_event(cpu)
    elif cpu.pending & PEND_TRAP and not cpu.shadow & SHADOW_MOV_SS:
        cpu.pending &= ~<uint32_t>PEND_TRAP
        debug_trap(cpu)
    elif cpu.pending & PEND_NMI and not cpu.shadow & SHADOW_MOV_SS:
        cpu.pending &= ~<uint32_t>PEND_NMI
        cpu.halted = 0
        deliver_nmi(cpu)
    elif cpu.pending & PEND_EVENT and not cpu.shadow:
        if cpu.pv_event(cpu) != 0:
            cpu.halted = 0
    elif interrupt_due(cpu):
        take_interrupt(cpu)
    elif cpu.pending & PEND_INTR and not cpu.halted:
        cpu.window = 1  # instructions that set IF return to the run loop
    settle(cpu)


cdef bint deliver_due(Cpu *cpu) noexcept nogil:
    """Events, and waiting for one. True when an instruction comes next."""
    cdef uint64_t events = cpu.interrupts + cpu.exceptions
    deliver_one(cpu)
    if (cpu.stepping and cpu.interrupts + cpu.exceptions != events and cpu.stop == STOP_NONE and not cpu.fault
            and not cpu.stop_request):
        cpu.stop = STOP_CYCLES  # the delivery of the event was the step
    if cpu.fault:
        answer_fault(cpu)
        return False
    if cpu.stop != STOP_NONE or due(cpu):
        return False  # the delivery took the rest of the time
    if interrupt_due(cpu) or cpu.pending & (PEND_TRAP | PEND_NMI) and not cpu.shadow & SHADOW_MOV_SS:
        return False  # it comes before the first instruction of the handler that was entered
    if cpu.halted:
        idle(cpu)
        return False
    return True


cdef void run_instructions(Cpu *cpu) noexcept nogil:
    cdef bint one, ended
    # With breakpoints enabled, one instruction at a time: they may be anywhere in a block.
    one = cpu.stepping or cpu.shadow or cpu.rflags & FL_TF or cpu.dr[7] & 0xff
    if cpu.shadow & SHADOW_MOV_SS:
        cpu.rflags |= FL_RF  # no breakpoint on the instruction after MOV SS either (SDM vol. 3, 17.3.1.1)
    cpu.shadow = 0
    grant(cpu, one)
    ended = run_blocks(cpu, one)
    settle_mxcsr(cpu)
    settle(cpu)
    if cpu.fault:
        answer_fault(cpu)
    if cpu.stepping and ended and cpu.stop == STOP_NONE and not cpu.stop_request:
        cpu.stop = STOP_CYCLES


cdef bint run_blocks(Cpu *cpu, bint one) noexcept nogil:
    """Run blocks until the budget is spent, something is pending, or a fault; cpu.rip is then at the next instruction.
    False: no instruction has run, because its fetch took an exit, whose consequences come first."""
    cdef Op *op
    cdef uint64_t before = cpu.rflags & FL_TF
    cdef int64_t start
    cdef uint32_t turns = 0
    cdef bint ran = False
    cpu.entered = 0
    if cpu.dr[7] & 0xff and instruction_breakpoints(cpu) and breakpoint_hit(cpu):
        return True
    while cpu.acct < cpu.budget_end or one and not ran:
        op = cpu.resume
        cpu.resume = NULL
        if op == NULL or op.ip != cpu.rip:
            op = block_at_rip(cpu)
            if op == NULL:
                return True
            if cpu.pending & PEND_BUDGET:
                break
        start = cpu.acct
        begin_at(cpu, op)
        cpu.rflags &= ~<uint64_t>FL_RF
        if start >= 0:
            cut_block(cpu, op, one)
        run_chain(cpu, op)
        if cpu.cut != NULL:
            undo_cut(cpu)
        ran = ran or cpu.acct != start
        if (cpu.fault or cpu.pending or cpu.stop_request or cpu.halted or cpu.shadow or cpu.rflags & FL_TF
                or cpu.dr[7] & 0xff or cpu.held_signals[0]):
            break
        turns += 1
        if turns % TURNS_PER_LOOK == 0 and host_nanoseconds() >= cpu.poll_at:
            break
    # After MOV SS a single-step trap is not delayed, as other debug traps are: there is none (SDM vol. 3, 6.8.3).
    if before and not cpu.fault and not cpu.entered and ran and not cpu.shadow & SHADOW_MOV_SS:
        cpu.dr6_pending |= 1 << 14
        cpu.pending |= PEND_TRAP
    return ran or cpu.fault != FAULT_NONE


cdef void answer_fault(Cpu *cpu) noexcept nogil:
    if cpu.fault == FAULT_EXCEPTION:
        deliver_exception(cpu)
        settle(cpu)
    if cpu.fault == FAULT_SKIP:
        cpu.fault = FAULT_NONE
    if cpu.fault == FAULT_ABORT:
        cpu.fault = FAULT_NONE
        if cpu.stop == STOP_NONE:
            cpu.stop = STOP_ERROR


# --- instruction breakpoints (SDM vol. 3, 17.3.1.1) -----------------------------------------------------------------------
cdef bint instruction_breakpoints(Cpu *cpu) noexcept nogil:
    cdef uint32_t index
    if not cpu.dr[7] & 0xff:
        return False
    for index in range(4):
        if (cpu.dr[7] >> (2 * index)) & 3 and not (cpu.dr[7] >> (16 + 4 * index)) & 3:
            return True
    return False


cdef bint breakpoint_hit(Cpu *cpu) noexcept nogil:
    cdef uint32_t index
    cdef uint64_t at = cpu.rip, hit = 0
    if cpu.rflags & FL_RF:
        return False
    if cpu.mode & MODE_WIDTH != MODE_64:
        at = <uint32_t>(at + cpu.seg[SEG_CS].base)
    for index in range(4):
        if (cpu.dr[7] >> (2 * index)) & 3 and not (cpu.dr[7] >> (16 + 4 * index)) & 3 and cpu.dr[index] == at:
            hit |= <uint64_t>1 << index
    if not hit:
        return False
    debug_fault(cpu, NULL, hit)
    return True
