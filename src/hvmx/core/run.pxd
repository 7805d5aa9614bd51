# cython: language_level=3
"""The run loop: blocks, and what happens between them."""
from hvmx.core.state.state cimport *

# Run until Cpu.stop says why not to; needs no GIL.
cdef void run(Cpu *cpu) noexcept nogil
# Add up what has been accounted since the slice began.
cdef void settle(Cpu *cpu) noexcept nogil
