# cython: language_level=3
"""Task switches and the I/O permission map (SDM vol. 3, chapter 7)."""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.state.state cimport *

cdef enum:
    # The numbers of the exit qualification (SDM vol. 3, table 27-2).
    SWITCH_CALL = 0
    SWITCH_RETURN = 1      # IRET with NT set
    SWITCH_JUMP = 2
    SWITCH_INTERRUPT = 3

# To the task of a TSS selector; `flags` and `return_ip` are what the old task goes on with. cpu.rip is in the new task
# afterwards. False on a fault: in the old task with its state of before, or, once the switch has happened, in the new.
cdef bint switch_task(Cpu *cpu, Op *op, uint32_t selector, uint32_t kind, uint32_t ext, uint64_t return_ip,
                      uint64_t flags) noexcept nogil
# Does the TSS let the present task use these ports? #GP(0) if not.
cdef bint io_permitted(Cpu *cpu, Op *op, uint32_t port, uint32_t width) noexcept nogil
