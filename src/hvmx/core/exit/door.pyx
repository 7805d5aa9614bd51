# cython: language_level=3
from libc.stdint cimport int64_t, uint32_t, uint64_t

from hvmx.core.exit.counts cimport ExitCounts
from hvmx.core.exit.devices cimport DevicePlaces
from hvmx.core.state.host_time cimport host_nanoseconds
from hvmx.core.pipeline.hot cimport charge
from hvmx.core.pipeline.paths cimport account_before, begin_at, drain_pipeline, take_back
from hvmx.core.state.ops cimport next_ip
from hvmx.core.state.state cimport *
from hvmx.core.state.timeline cimport note_span, span_begins


cdef ExitOutcome exit_to_handler(Cpu *cpu, uint32_t reason) noexcept nogil:
    cdef uint64_t rip = cpu.rip
    cpu.exit.reason = reason
    if cpu.vmexit(cpu) != 0:
        return EXIT_RAISED
    if cpu.fault:
        return EXIT_INJECTED
    return EXIT_DONE if cpu.rip == rip else EXIT_MOVED


cdef void before_exit(Cpu *cpu, Op *op) noexcept nogil:
    account_before(cpu, op)
    drain_pipeline(cpu)
    begin_at(cpu, op)


cdef int call_handler(Cpu *cpu, object handler, object vcpu, object exit, ExitCounts counts, DevicePlaces places) except -1:
    cdef uint32_t reason = cpu.exit.reason
    cdef uint64_t number = counts.began(cpu), start = host_nanoseconds(), time = cpu.time
    cdef uint64_t price, extra, end, begin = span_begins(cpu)
    if handler is None:
        raise RuntimeError(f"exit reason {reason} has no handler")
    handler(vcpu, exit)
    price = cpu.exit_cost[reason]
    extra = places.extra_cost(cpu)
    if extra:
        cpu.time += extra
        cpu.charged[CHARGE_USER_DEVICE].count += 1
        cpu.charged[CHARGE_USER_DEVICE].units += extra
        cpu.pending |= PEND_BUDGET
    end = host_nanoseconds()
    counts.ended(reason, number, price + cpu.time - time, end - start)
    charge(cpu, CHARGE_EXIT, 1, <int64_t>price)
    note_span(cpu, SPAN_EXIT, reason, number, begin)
    if end >= cpu.poll_at:
        cpu.pending |= PEND_BUDGET  # to the run loop, which looks at the limits
    return 0


cdef ExitOutcome instruction_exit(Cpu *cpu, Op *op, uint32_t reason) noexcept nogil:
    cdef ExitOutcome outcome
    account(cpu, op)
    drain_pipeline(cpu)
    cpu.exit.length = op.len
    cpu.rip = op.ip
    outcome = exit_to_handler(cpu, reason)
    if outcome == EXIT_DONE:
        cpu.rip = next_ip(op)
    elif outcome != EXIT_MOVED:
        take_back(cpu, op)
        if outcome == EXIT_RAISED:
            cpu.fault = FAULT_ABORT
            cpu.rip = op.ip
    return outcome


cdef ExitOutcome exit_before_faults(Cpu *cpu, Op *op, uint32_t reason) noexcept nogil:
    cdef ExitOutcome outcome = instruction_exit(cpu, op, reason)
    if outcome == EXIT_DONE:
        take_back(cpu, op)
    return outcome


cdef ExitOutcome event_exit(Cpu *cpu, uint32_t reason) noexcept nogil:
    cdef ExitOutcome outcome = exit_to_handler(cpu, reason)
    if outcome == EXIT_RAISED:
        cpu.fault = FAULT_ABORT
    return outcome
