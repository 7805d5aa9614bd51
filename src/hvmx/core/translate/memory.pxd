# cython: language_level=3
"""Memory operands of translated code: their addresses, and the TLB probe."""
from libc.stdint cimport int32_t, uint32_t

from hvmx.core.translate.trace cimport *

# base + index * scale + disp into a register, by ADDRESS_* of ops.pxd.
cdef void offset_into(Trace *t, Op *op, uint32_t address, uint32_t to) noexcept nogil
# The linear address of the operand into RAX.
cdef void linear_address(Trace *t, Op *op, uint32_t address) noexcept nogil
# On a hit, what is at the linear address in RAX is at the host address RAX + RCX; on a miss the interpreter goes on at
# `op`. `right` is AT_READ or AT_WRITE. Uses RDX.
cdef void probe_tlb(Trace *t, Op *op, uint32_t bytes, int32_t right) noexcept nogil
# A value of `width` bits from there, zero-extended; and to there.
cdef void load_probed(Trace *t, uint32_t width, uint32_t to) noexcept nogil
cdef void store_probed(Trace *t, uint32_t width, uint32_t source) noexcept nogil
