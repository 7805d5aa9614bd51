# cython: language_level=3
"""Task switches and the I/O permission map (SDM vol. 3, chapter 7)."""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.state.state cimport *

cdef enum:
    # As in the exit qualification (SDM vol. 3, table 27-2).
    SWITCH_CALL = 0
    SWITCH_RETURN = 1      # IRET with NT set
    SWITCH_JUMP = 2
    SWITCH_INTERRUPT = 3

# Switch to the task of a TSS selector. The old task will continue with `flags` and `return_ip`; afterwards cpu.rip is
# in the new task. False on a fault: in the old task, with the state of before; or in the new one, if it has been
# entered.
cdef bint switch_task(Cpu *cpu, Op *op, uint32_t selector, uint32_t kind, uint32_t ext, uint64_t return_ip,
                      uint64_t flags) noexcept nogil
# Does the I/O permission map in the TSS allow these ports? #GP(0) if not.
cdef bint io_permitted(Cpu *cpu, Op *op, uint32_t port, uint32_t width) noexcept nogil
