# cython: language_level=3
"""The run loop: runs blocks, and delivers what is due between two instructions."""
from hvmx.core.state.state cimport *

# Run until there is a reason to stop, in Cpu.stop. Needs no GIL.
cdef void run(Cpu *cpu) noexcept nogil
# Move what has been accounted for in Cpu.acct to Cpu.time and Cpu.instructions.
cdef void settle(Cpu *cpu) noexcept nogil
