# cython: language_level=3
"""What an exit tells its handler in Python."""
from hvmx.core.registers cimport Registers
from hvmx.core.state.state cimport ExitInfo


cdef class Exit:
    cdef ExitInfo *info
    cdef ExitInfo last       # what is left of it after its processor
    cdef void *registers     # Registers, whose exit it is; NULL after it


cdef Exit exit_of(Registers registers)
cdef void detach(Exit self) noexcept
