# cython: language_level=3
"""Pending flags (see trace.pxd): deferred, tested, and materialised, which is to compute Cpu's lazy flags.

All but defer_flags() use the scratch registers.
"""
from libc.stdint cimport int64_t, uint32_t

from hvmx.core.translate.trace cimport *

# Let the flags of an instruction be pending: see PENDING_* in trace.pxd.
cdef void defer_flags(Trace *t, uint32_t kind, uint32_t width, uint32_t a, uint32_t b, int64_t immediate) noexcept nogil
# Materialise pending flags, if there are any.
cdef void materialise_flags(Trace *t) noexcept nogil
# Materialise pending flags if they need TEMP, which is free then.
cdef void free_temp(Trace *t) noexcept nogil
# Before a guest register is overwritten: if pending flags need it, keep it in TEMP, or materialise them.
cdef void save_flag_operand(Trace *t, uint32_t guest) noexcept nogil
# Sets the host's flags; the condition of the host that then holds if the guest's condition `code` does.
cdef uint32_t condition_of(Trace *t, uint32_t code) noexcept nogil
# Cpu's lazy flags after a shift on the host, which has left the guest's CF in the host's. OF follows the rule for a
# count of 1, as in shift.pyx.in; the top bit of fl_aux is OF xor CF, the rest 0.
cdef void store_shift_flags(Trace *t, uint32_t which, uint32_t width, uint32_t result) noexcept nogil
# Cpu's lazy flags: of the result, the xor of result and operands, and CF as 0 or 1. Changes `aux` and RAX.
cdef void store_flags(Trace *t, uint32_t width, uint32_t result, uint32_t aux, uint32_t carry) noexcept nogil
