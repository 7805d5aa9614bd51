# cython: language_level=3
"""What an exit tells its handler in Python."""
from hvmx.core.state cimport ExitInfo


cdef class Exit:
    cdef ExitInfo *info
