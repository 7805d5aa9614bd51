# cython: language_level=3
"""Which registers an instruction reads and writes."""
from libc.stdint cimport int8_t, uint8_t

from hvmx.core.state.insn cimport Insn

cdef enum:
    NO_REGISTER = 0xFF
    # PUSHA reads as many, and POPA writes as many, as there are general registers without REX: no encoding has more.
    MAX_REGISTERS = 8

# Registers are numbered from BANK_GENERAL, BANK_XMM and BANK_MMX on (insn.h), those of the x87 by their distance from
# the top of the stack before the instruction. `reads` leaves out the registers of the memory operand's address, which
# are in `base` and `index` (NO_REGISTER for none). Neither has a register twice; what no operand names stands last.
cdef struct Registers:
    uint8_t[MAX_REGISTERS] reads
    uint8_t[MAX_REGISTERS] writes
    uint8_t read_count
    uint8_t write_count
    uint8_t base
    uint8_t index
    bint reads_flags  # any of OF, SF, ZF, AF, PF, CF
    bint writes_flags
    int8_t x87_push  # by how much the x87 stack grows: 1, 0, -1, -2

cdef void registers_of(const Insn* insn, Registers* out) noexcept nogil
