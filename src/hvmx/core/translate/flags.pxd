# cython: language_level=3
"""Arithmetic flags that are owed (see stretch.pxd): paid, looked at, or kept alive."""
from libc.stdint cimport int64_t, uint32_t

from hvmx.core.translate.trace cimport *

# Let Cpu's lazy flags be true. Uses the scratch registers.
cdef void settle(Stretch *t) noexcept nogil
# A register of the guest is about to be overwritten: keep what the owed flags need of it. Uses the scratch registers.
cdef void release(Stretch *t, uint32_t guest) noexcept nogil
# The host's condition, on the host's flags, that says whether the guest's holds. Uses the scratch registers.
cdef uint32_t condition_of(Stretch *t, uint32_t code) noexcept nogil
# Let nothing that is owed need VALUE. Uses the scratch registers.
cdef void free_value(Stretch *t) noexcept nogil
# After a shift on the host, whose CF is the guest's: Cpu's lazy flags. OF follows the rule for a count of 1, as in
# shift.pyx.in; the top bit of fl_aux is OF xor CF, the rest 0. Uses the scratch registers.
cdef void flags_of_shift(Stretch *t, uint32_t which, uint32_t width, uint32_t result) noexcept nogil
# An instruction's flags, to be paid later: see OWED_* of stretch.pxd.
cdef void owe(Stretch *t, uint32_t kind, uint32_t width, uint32_t a, uint32_t b, int64_t immediate) noexcept nogil
# Cpu's lazy flags: of the result, the xor of result and operands, and CF as 0 or 1. Changes `aux` and RAX.
cdef void store_flags(Stretch *t, uint32_t width, uint32_t result, uint32_t aux, uint32_t carry) noexcept nogil
