# cython: language_level=3
"""How the x87 reports unmasked exceptions (SDM vol. 1, 8.7)."""
from hvmx.core.state.state cimport *

# A waiting instruction finds a pending exception of an earlier one: #MF; or, if CR0.NE is clear, FERR#, and the
# processor waits for an interrupt before it executes the instruction. True: the instruction does not happen now.
cdef bint meet_exception(Cpu *cpu, Op *op) noexcept nogil
