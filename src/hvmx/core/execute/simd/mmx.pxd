# cython: language_level=3
"""The MMX registers, which are the significands of the x87's (SDM vol. 1, 9.2).

`Op.d` and `Op.s` are the offsets of general registers: twice that is the offset of the MMX register of the same number.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from hvmx.core.state.ops cimport *
from hvmx.core.state.state cimport *
from hvmx.core.execute.x87.x87 cimport exception_pending


cdef inline bint mmx_usable(Cpu *cpu, Op *op) noexcept nogil:
    """False: #UD, #NM, or #MF for a pending x87 exception has been raised (SDM vol. 3, 12.1, 12.5)."""
    if UNLIKELY(cpu.cr0 & (CR0_EM | CR0_TS)):
        fault(cpu, op, VEC_UD if cpu.cr0 & CR0_EM else VEC_NM, 0)
        return False
    return not exception_pending(cpu, op)


cdef inline uint64_t *mm(Cpu *cpu, uint32_t offset) noexcept nogil:
    return <uint64_t *>(<uint8_t *>cpu.fpr + 2 * offset)


cdef inline void reset_top(Cpu *cpu) noexcept nogil:
    cpu.fsw &= 0xc7ff


cdef inline void to_mmx(Cpu *cpu) noexcept nogil:
    """Every MMX instruction but EMMS leaves TOP 0 and all registers full (SDM vol. 1, 9.5.1)."""
    reset_top(cpu)
    cpu.ftw = 0


cdef inline void wrote_mm(Cpu *cpu, uint32_t offset) noexcept nogil:
    """The same for an instruction that has written a register: all bits of its sign and exponent become 1."""
    (<uint16_t *>mm(cpu, offset))[4] = 0xffff
    to_mmx(cpu)


cdef inline void set_mm(Cpu *cpu, uint32_t offset, uint64_t value) noexcept nogil:
    mm(cpu, offset)[0] = value
    wrote_mm(cpu, offset)
