# cython: language_level=3
"""MASKMOVQ and MASKMOVDQU: store the bytes of a register that a mask selects, at DS:rDI."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from hvmx.core.state.insn cimport FORM_R_RM
from hvmx.core.memory.mmu cimport *
from hvmx.core.memory.segmentation cimport linear
from hvmx.core.execute.simd.mmx cimport mm, mmx_usable, to_mmx
from hvmx.core.state.ops cimport *
from hvmx.core.execute.simd.sse cimport sse_usable, xmm
from hvmx.core.state.state cimport *


cdef uint64_t chosen_address(Cpu *cpu, Op *op, uint32_t index) noexcept nogil:
    """The linear address of eight bytes of the operand, checked: sets cpu.fault."""
    return linear(cpu, op, op.seg, within_address_size(op, cpu.r[REG_RDI] + index), 8, True)


cdef bint store_chosen(Cpu *cpu, Op *op, const uint8_t *value, const uint8_t *mask, uint32_t size) noexcept nogil:
    """All bytes must be writable, whatever the mask is. Of sixteen, the last eight are checked first, as on Intel's
    processors. False on a fault."""
    cdef uint64_t at
    cdef uint32_t index, byte
    for index in range(size, 0, -8):
        at = chosen_address(cpu, op, index - 8)
        if cpu.fault or not probe_write(cpu, op, at, 8):
            return False
    for index in range(0, size, 8):
        at = chosen_address(cpu, op, index)
        for byte in range(8):
            if mask[index + byte] & 0x80:
                store8(cpu, op, at + byte if cpu.mode & MODE_WIDTH == MODE_64 else <uint32_t>(at + byte), value[index + byte])
                if cpu.fault:
                    return False
    return True


cdef void maskmovq(Cpu *cpu, Op *op) noexcept nogil:
    if mmx_usable(cpu, op):
        to_mmx(cpu)  # even if the store faults
        if store_chosen(cpu, op, <uint8_t *>mm(cpu, op.d), <uint8_t *>mm(cpu, op.s), 8):
            run_next(cpu, op)


cdef void maskmovdqu(Cpu *cpu, Op *op) noexcept nogil:
    if sse_usable(cpu, op) and store_chosen(cpu, op, <uint8_t *>xmm(cpu, op.d), <uint8_t *>xmm(cpu, op.s), 16):
        run_next(cpu, op)


register_handler("maskmovq", FORM_MMX + FORM_R_RM, 0, ADDRESS_NONE, maskmovq)
register_handler("maskmovdqu", FORM_R_RM, 0, ADDRESS_NONE, maskmovdqu)
