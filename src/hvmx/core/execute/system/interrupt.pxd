# cython: language_level=3
"""Delivery of exceptions and interrupts (SDM vol. 3, chapter 6)."""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.state.state cimport *

# For the run loop. They leave cpu.rip at the guest's handler, or cpu.fault FAULT_ABORT, or cpu.stop STOP_SHUTDOWN.
cdef void deliver_exception(Cpu *cpu) noexcept nogil      # the one in cpu.fault_vector and fault_error
cdef void deliver_interrupt(Cpu *cpu, uint32_t vector) noexcept nogil
cdef void deliver_nmi(Cpu *cpu) noexcept nogil
cdef void redeliver_event(Cpu *cpu) noexcept nogil        # the one in cpu.vectoring
cdef void debug_trap(Cpu *cpu) noexcept nogil             # the #DB whose bits are in cpu.dr6_pending
# A #DB before an instruction, together with debug traps that MOV SS has kept pending.
cdef void debug_fault(Cpu *cpu, Op *op, uint64_t conditions) noexcept nogil

cdef enum:
    SOURCE_EXTERNAL = 1    # sets the EXT bit of error codes; the gate's DPL is not checked
    SOURCE_ERROR = 2       # pushes an error code
    SOURCE_FAULT = 4       # pushes RF
# Enter the guest's handler of `vector`. False on a fault, with the state of before. `op`: of INT n, else NULL.
cdef bint enter_handler(Cpu *cpu, Op *op, uint32_t vector, uint32_t source, uint32_t error,
                        uint64_t return_ip) noexcept nogil
