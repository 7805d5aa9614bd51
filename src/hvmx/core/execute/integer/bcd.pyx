# cython: language_level=3
"""Decimal adjustment: DAA DAS AAA AAS AAM AAD."""
from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t

from hvmx.core.state.insn cimport FORM_I, FORM_NONE
from hvmx.core.state.ops cimport *
from hvmx.core.state.state cimport *


cdef inline uint8_t al(Cpu *cpu) noexcept nogil:
    return reg8(cpu, 8 * REG_RAX)[0]


cdef inline uint8_t *ah(Cpu *cpu) noexcept nogil:
    return reg8(cpu, 8 * REG_RAX + 1)


cdef inline void adjusted(Cpu *cpu, bint cf, bint af) noexcept nogil:
    """CF and AF as given, SF, ZF and PF by AL; OF is undefined, and cleared here."""
    set_cf_of(cpu, <int8_t>al(cpu), cf, False)
    cpu.fl_aux |= <int64_t>af << 4


cdef inline bint low_digit_carries(Cpu *cpu) noexcept nogil:
    return al(cpu) & 15 > 9 or flag_af(cpu)


cdef inline bint high_digit_carries(Cpu *cpu) noexcept nogil:
    return al(cpu) > 0x99 or flag_cf(cpu)


cdef void daa(Cpu *cpu, Op *op) noexcept nogil:
    cdef bint low = low_digit_carries(cpu), high = high_digit_carries(cpu)
    set8(cpu, 8 * REG_RAX, <uint8_t>(al(cpu) + 6 * low + 0x60 * high))
    adjusted(cpu, high, low)
    run_next(cpu, op)


# A borrow out of the low digit's adjustment sets CF, too (SDM vol. 2, DAS).
cdef void das(Cpu *cpu, Op *op) noexcept nogil:
    cdef bint low = low_digit_carries(cpu), high = high_digit_carries(cpu)
    cdef bint borrow = high or low and al(cpu) < 6
    set8(cpu, 8 * REG_RAX, <uint8_t>(al(cpu) - 6 * low - 0x60 * high))
    adjusted(cpu, borrow, low)
    run_next(cpu, op)


cdef void aaa(Cpu *cpu, Op *op) noexcept nogil:
    cdef bint carry = low_digit_carries(cpu)
    if carry:
        set16(cpu, 8 * REG_RAX, <uint16_t>(reg16(cpu, 8 * REG_RAX)[0] + 0x106))
    set8(cpu, 8 * REG_RAX, al(cpu) & 15)
    adjusted(cpu, carry, carry)
    run_next(cpu, op)


cdef void aas(Cpu *cpu, Op *op) noexcept nogil:
    cdef bint carry = low_digit_carries(cpu)
    if carry:
        set16(cpu, 8 * REG_RAX, <uint16_t>(reg16(cpu, 8 * REG_RAX)[0] - 0x106))
    set8(cpu, 8 * REG_RAX, al(cpu) & 15)
    adjusted(cpu, carry, carry)
    run_next(cpu, op)


cdef void aam(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint8_t base = <uint8_t>op.imm, value = al(cpu)
    if base == 0:
        fault(cpu, op, VEC_DE, 0)
        return
    ah(cpu)[0] = value // base
    set8(cpu, 8 * REG_RAX, value % base)
    adjusted(cpu, False, False)
    run_next(cpu, op)


cdef void aad(Cpu *cpu, Op *op) noexcept nogil:
    set16(cpu, 8 * REG_RAX, <uint8_t>(al(cpu) + ah(cpu)[0] * <uint8_t>op.imm))
    adjusted(cpu, False, False)
    run_next(cpu, op)


register_handler("daa", FORM_NONE, 0, ADDRESS_NONE, daa)
register_handler("das", FORM_NONE, 0, ADDRESS_NONE, das)
register_handler("aaa", FORM_NONE, 0, ADDRESS_NONE, aaa)
register_handler("aas", FORM_NONE, 0, ADDRESS_NONE, aas)
register_handler("aam", FORM_I, 0, ADDRESS_NONE, aam)
register_handler("aad", FORM_I, 0, ADDRESS_NONE, aad)
