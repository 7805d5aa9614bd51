# cython: language_level=3
"""The host's MXCSR, lent to the guest: see mxcsr_host.h."""
from hvmx.core.state.state cimport Cpu

cdef extern from "mxcsr_host.h" nogil:
    bint lend_mxcsr(Cpu *cpu)
    # Before the guest's MXCSR is read or written, and before code that may compute with the host's.
    void settle_mxcsr(Cpu *cpu)
