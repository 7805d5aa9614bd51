# cython: language_level=3
"""What the x87 does about an exception that is unmasked (SDM vol. 1, 8.7)."""
from hvmx.core.state.state cimport *

# A waiting instruction meets an exception that an earlier one has left: #MF, or with CR0.NE clear FERR#, upon which the
# processor waits before the instruction for an interrupt. True: the instruction does not happen now.
cdef bint meet_exception(Cpu *cpu, Op *op) noexcept nogil
