# cython: language_level=3
from libc.stdint cimport int64_t, uint32_t, uint64_t

from hvmx.core.state.ops cimport next_ip
from hvmx.core.state.state cimport *


cdef inline void charge(Cpu *cpu, uint32_t reason) noexcept nogil:
    cpu.acct += <int64_t>(<uint64_t>cpu.exit_cost[reason] << ACCT_SHIFT)


cdef bint take_exit(Cpu *cpu, Op *op, uint32_t reason) noexcept nogil:
    cpu.exit.reason = reason
    cpu.exit.length = op.len
    cpu.acct += <int64_t>op.acct
    cpu.rip = op.ip
    if cpu.vmexit(cpu) != 0:
        cpu.fault = FAULT_ABORT
        cpu.rip = op.ip
    else:
        charge(cpu, reason)
    if cpu.fault:  # it raised, or injected an exception into the guest
        cpu.acct -= <int64_t>(op.acct - (op - 1).acct)
        return False
    if cpu.rip != op.ip:
        return False
    cpu.rip = next_ip(op)
    return True


cdef bint pass_exit(Cpu *cpu, Op *op, uint32_t reason) noexcept nogil:
    if not take_exit(cpu, op, reason):
        return False
    cpu.acct -= <int64_t>op.acct
    return True


cdef bint take_event_exit(Cpu *cpu, uint32_t reason) noexcept nogil:
    cpu.exit.reason = reason
    if cpu.vmexit(cpu) != 0:
        cpu.fault = FAULT_ABORT
        return False
    charge(cpu, reason)
    return True
