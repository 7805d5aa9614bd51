"""Which registers an instruction reads and writes: what it waits for, and what waits for it.

By the columns ``access`` and ``implicit`` of the instruction table (:mod:`hvmx.isa`). AH to BH count as the register
whose part they are, and so does any other part. A write of 8 or 16 bits keeps the rest of a general register, so it
reads it too; a write of 32 bits clears the upper half (SDM volume 1, section 3.4.1.1).
Segment, control, debug and test registers are left out, and so are instructions that save, load or reset the whole x87,
MMX or XMM state (FXRSTOR, FNINIT, EMMS): they name no registers of it.
"""

from libc.stdint cimport uint64_t

from hvmx.core.decode.decoder cimport decode, row_of
from hvmx.core.state.insn cimport *
from hvmx.core.state.state cimport REG_RCX, REG_ZERO

cdef enum:
    ARITHMETIC_FLAGS = 1 << 0 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 11  # CF, PF, AF, ZF, SF, OF


cdef inline void add(uint8_t* registers, uint8_t* count, int register) noexcept nogil:
    """Adds a register to those that are there, once."""
    cdef int i
    for i in range(count[0]):
        if registers[i] == register:
            return
    registers[count[0]] = <uint8_t> register
    count[0] += 1


cdef inline void use(Registers* out, int register, int access) noexcept nogil:
    if access & ACCESS_READ:
        add(out.reads, &out.read_count, register)
    if access & ACCESS_WRITE:
        add(out.writes, &out.write_count, register)


cdef inline void use_all(Registers* out, int bank, int registers, int access) noexcept nogil:
    """The same for a mask of a bank's registers."""
    cdef int register
    for register in range(16):
        if registers >> register & 1:
            use(out, bank + register, access)


cdef inline void use_operand(Registers* out, int bank, int register, int offset, int bits, int access) noexcept nogil:
    """The register in rm or reg, at its offset in the register file."""
    if bank == BANK_GENERAL:
        register = offset >> 3
        if access & ACCESS_WRITE and bits < 32:
            access |= ACCESS_READ
    elif bank == BANK_MMX:
        register &= 7  # REX means nothing to them
    use(out, bank + register, access)


cdef inline bint count_is_zero(const Insn* insn, const InsnRow* row) noexcept nogil:
    """A shift or rotation by 0, which leaves the flags alone."""
    return row.flags & ROW_COUNTED and insn.imm & (63 if insn.opsize == 64 else 31) == 0


cdef inline bint is_hint(const InsnRow* row) noexcept nogil:
    """A NOP that names memory, whose address nothing computes; LEA has a use for it."""
    return row.flags & ROW_UNACCESSED and not row.reg_access_mem


cdef void registers_of(const Insn* insn, Registers* out) noexcept nogil:
    """Fills `out` for a decoded instruction."""
    cdef const InsnRow* row = row_of(insn)
    cdef bint reg_first = insn.form == FORM_R_RM or insn.form == FORM_R_RM_I
    cdef int reg_access = row.reg_access_mem if insn.is_mem else row.reg_access
    out.read_count = 0
    out.write_count = 0
    out.base = NO_REGISTER if insn.base == REG_ZERO or is_hint(row) else insn.base
    out.index = NO_REGISTER if insn.index == REG_ZERO or is_hint(row) else insn.index
    if reg_first:
        use_operand(out, row.reg_bank, insn.reg, insn.reg_offset, insn.opsize, reg_access)
    if not insn.is_mem:
        use_operand(out, row.rm_bank, insn.rm, insn.rm_offset, insn.opsize2 if reg_first else insn.opsize,
                    row.rm_access)
    if not reg_first:
        use_operand(out, row.reg_bank, insn.reg, insn.reg_offset, insn.opsize2, reg_access)
    use(out, BANK_XMM, row.xmm0_access)
    use_all(out, BANK_MMX, row.x87_read, ACCESS_READ)
    use_all(out, BANK_MMX, row.x87_written, ACCESS_WRITE)
    use_all(out, BANK_GENERAL, row.implicit_read, ACCESS_READ)
    use_all(out, BANK_GENERAL, row.implicit_written, ACCESS_WRITE)
    if insn.opsize == 16:
        use_all(out, BANK_GENERAL, row.implicit_sized, ACCESS_READ)
    if row.flags & ROW_STRING and insn.prefixes & (PREFIX_REP | PREFIX_REPNE):
        use(out, BANK_GENERAL + REG_RCX, ACCESS_READ | ACCESS_WRITE)
        use_all(out, BANK_GENERAL, row.implicit_written, ACCESS_READ)  # they stay as they were where RCX is 0
    out.reads_flags = row.flags_read & ARITHMETIC_FLAGS != 0
    out.writes_flags = (row.flags_written | row.flags_undefined) & ARITHMETIC_FLAGS != 0 \
        and not count_is_zero(insn, row)
    out.x87_push = row.x87_push


def registers_of_py(bytes code, int mode):
    """The fields of ``Registers`` as a dict, with `reads` and `writes` as lists of numbers; None for #UD. For tests."""
    cdef Insn insn
    cdef Registers registers
    if decode(<const uint8_t*> <const char*> code, <int> len(code), mode, ~(<uint64_t> 0), &insn) < 0:
        return None
    registers_of(&insn, &registers)
    cdef dict fields = registers
    fields["reads"] = [registers.reads[i] for i in range(registers.read_count)]
    fields["writes"] = [registers.writes[i] for i in range(registers.write_count)]
    return fields
