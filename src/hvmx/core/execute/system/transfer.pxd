# cython: language_level=3
"""Checks that far returns share: RETF and IRET."""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.execute.system.frame cimport Frame
from hvmx.core.state.state cimport *

# The checks of the code segment that is returned to: #GP or #NP.
cdef bint fetch_return_code(Cpu *cpu, Op *op, uint32_t selector, uint64_t *raw) noexcept nogil
# The stack segment that is returned to, at level `cpl`, into `frame`; null is allowed for 64-bit code at CPL 0 to 2.
cdef bint fetch_return_stack(Cpu *cpu, Op *op, uint32_t selector, uint32_t cpl, bint to_64, Frame *frame) noexcept nogil
# Is the instruction pointer within the code segment that `raw` describes? Else #GP(0).
cdef bint check_target(Cpu *cpu, Op *op, uint64_t raw, uint64_t *target) noexcept nogil
# The last step of a transfer: CS is loaded and, with a frame, SS:rSP; both are marked as accessed. False on a fault.
cdef bint load_code_and_stack(Cpu *cpu, Op *op, uint32_t selector, uint64_t raw, uint32_t level,
                              Frame *frame) noexcept nogil
# Is this a 64-bit code segment (in long mode)?
cdef bint is_64_bit(Cpu *cpu, uint64_t raw) noexcept nogil
# The far return address at the top of the stack: CS first, then rIP. False on a fault.
cdef bint pop_return(Cpu *cpu, Op *op, Frame *frame, uint32_t size, uint64_t *target, uint64_t *selector) noexcept nogil
