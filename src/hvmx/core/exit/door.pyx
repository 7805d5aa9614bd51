# cython: language_level=3
from libc.stdint cimport int64_t, uint32_t, uint64_t

from hvmx.core.pipeline.paths cimport account_before, begin_at, drain_pipeline, take_back
from hvmx.core.state.ops cimport next_ip
from hvmx.core.state.state cimport *


cdef ExitOutcome exit_to_handler(Cpu *cpu, uint32_t reason) noexcept nogil:
    cdef uint64_t rip = cpu.rip
    cpu.exit.reason = reason
    if cpu.vmexit(cpu) != 0:
        return EXIT_RAISED
    cpu.acct += <int64_t>(<uint64_t>cpu.exit_cost[reason] << ACCT_SHIFT)
    if cpu.fault:
        return EXIT_INJECTED
    return EXIT_DONE if cpu.rip == rip else EXIT_MOVED


cdef void before_exit(Cpu *cpu, Op *op) noexcept nogil:
    account_before(cpu, op)
    drain_pipeline(cpu)
    begin_at(cpu, op)


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
