# cython: language_level=3
"""Arithmetic flags that are owed (see translation.pxd): paid, looked at, or kept alive."""
from libc.stdint cimport uint32_t

from hvmx.core.translation cimport *

# Let Cpu's lazy flags be true. Uses the scratch registers.
cdef void settle(Translation *t) noexcept nogil
# A register of the guest is about to be overwritten: keep what the owed flags need of it. Uses the scratch registers.
cdef void release(Translation *t, uint32_t guest) noexcept nogil
# The host's condition, on the host's flags, that says whether the guest's holds. Uses the scratch registers.
cdef uint32_t condition_of(Translation *t, uint32_t code) noexcept nogil
