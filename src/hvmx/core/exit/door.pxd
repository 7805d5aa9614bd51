# cython: language_level=3
"""The way out of the guest to a handler: every exit goes through exit_to_handler()."""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.exit.counts cimport ExitCounts
from hvmx.core.exit.devices cimport DevicePlaces
from hvmx.core.state.state cimport *

# Fills in what the handler is told besides the reason; `width` in bytes, `number` of port, MSR, vector or register. What
# only some exits have is 0 until it is filled in.
cdef inline void describe_exit(Cpu *cpu, uint32_t number, uint64_t value, uint32_t width, bint is_write,
                               uint64_t qualification) noexcept nogil:
    cpu.exit.number = number
    cpu.exit.value = value
    cpu.exit.width = width
    cpu.exit.is_write = is_write
    cpu.exit.qualification = qualification
    cpu.exit.length = 0
    cpu.exit.linear = cpu.exit.physical = 0
    cpu.exit.error_code = 0
    cpu.exit.host_only = 0

# Takes the described exit to the handler of its reason, by way of Cpu.vmexit. What the outcome means for the instruction
# is up to who asks.
cdef ExitOutcome exit_to_handler(Cpu *cpu, uint32_t reason) noexcept nogil
# The other half, for Cpu.vmexit: handler(vcpu, exit). Here alone an exit is timed, counted and paid for, all of it after
# the handler has returned: one that raises is called again, and its exit counts then. (Among the last exits it is.)
cdef int call_handler(Cpu *cpu, object handler, object vcpu, object exit, ExitCounts counts, DevicePlaces places) except -1

# The chain has come to the instruction of `op`, which exits: what came before is complete, and Cpu.node is at `op`.
cdef void before_exit(Cpu *cpu, Op *op) noexcept nogil

# The exit of an instruction, with cpu.rip at it and guest time at its end. EXIT_DONE: cpu.rip is after the instruction;
# what is left is to write results, not to account or leave. EXIT_MOVED: the handler did all of it. Else the instruction
# did not happen, as cpu.fault says.
cdef ExitOutcome instruction_exit(Cpu *cpu, Op *op, uint32_t reason) noexcept nogil
# The exit of an instruction that can still fault (SDM vol. 3, 25.1.1: exits come before the faults of what they are
# about). EXIT_DONE: go on as if there had been none, to leave or fault.
cdef ExitOutcome exit_before_faults(Cpu *cpu, Op *op, uint32_t reason) noexcept nogil
# An exit of events, between instructions or in the midst of one.
cdef ExitOutcome event_exit(Cpu *cpu, uint32_t reason) noexcept nogil
