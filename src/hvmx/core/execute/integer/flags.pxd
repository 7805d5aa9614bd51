# cython: language_level=3
"""Loading RFLAGS."""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.memory.segmentation cimport update_mode
from hvmx.core.state.ops cimport read_rflags, set_arithmetic_flags
from hvmx.core.state.state cimport *

# What any privilege level may change: CF PF AF ZF SF TF DF OF NT.
cdef enum:
    FLAGS_ANYONE = 0x4dd5

cdef inline void load_rflags(Cpu *cpu, uint64_t value, uint64_t mask) noexcept nogil:
    """Replace the bits in `mask`."""
    cdef uint64_t flags = (read_rflags(cpu) & ~mask) | (value & mask)
    set_arithmetic_flags(cpu, flags)
    cpu.rflags = (flags & ~<uint64_t>FL_ARITH) | 2
    update_mode(cpu)


cdef inline uint32_t iopl(Cpu *cpu) noexcept nogil:
    return <uint32_t>(cpu.rflags >> 12) & 3
