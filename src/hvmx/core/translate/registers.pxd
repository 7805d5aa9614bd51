# cython: language_level=3
"""Which registers of the guest are in registers of the host, within one stretch of operations."""
from libc.stdint cimport uint32_t

from hvmx.core.translate.trace cimport *

# The host's register that holds a register of the guest.
cdef uint32_t held(Stretch *t, uint32_t guest) noexcept nogil
# The same, for one that is about to be changed.
cdef uint32_t changed(Stretch *t, uint32_t guest) noexcept nogil
# The same, for one that is about to be overwritten as a whole: its value is not loaded.
cdef uint32_t taken(Stretch *t, uint32_t guest) noexcept nogil
# Let Cpu have all values.
cdef void write_back(Stretch *t) noexcept nogil
# A new stretch: nothing is held.
cdef void forget_registers(Stretch *t) noexcept nogil
