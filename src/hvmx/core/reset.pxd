# cython: language_level=3
from libc.stdint cimport uint64_t

from hvmx.core.state.state cimport Cpu


# What RESET leaves; `signature` is CPUID's. TLB, decoded code and mode are the caller's to renew.
cdef void reset_state(Cpu *cpu, uint64_t signature) noexcept
