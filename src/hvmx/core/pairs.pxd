# cython: language_level=3
"""Any two of the most frequent operations, run as one: a jump less that the host has to foresee."""
from hvmx.core.state cimport *

# The handler that does what `first` and then `second`, in the Op behind it, would do; NULL if there is none.
cdef OpFn pair_of(OpFn first, OpFn second) noexcept nogil
