"""The instruction decoder: bytes to an ``Insn``, by the tables generated from :mod:`hvmx.isa`.

It finds every static reason for #UD: no such encoding in this mode, LOCK where it is not allowed, a register where
memory must be and the reverse, a control or segment register that does not exist, a feature that the processor lacks. What
depends on the processor's state (real mode, privilege, CR0, CR4) is left to execution, which finds it in the row. Operand-size
prefixes on near branches in 64-bit mode are ignored, as Intel's processors do (SDM volume 2, table A-1, f64).
"""

from libc.stdint cimport int8_t, int16_t, int32_t, uint64_t
from libc.string cimport memcpy, memset

from hvmx.core.state.state cimport REG_RBP, REG_RBX, REG_RDI, REG_RSI, REG_RSP, REG_ZERO, SEG_CS, SEG_DS, SEG_GS, SEG_SS
from hvmx.isa import families, rows

cdef extern from "insn.h" nogil:
    enum:
        WIDTH_8
        WIDTH_16
        WIDTH_32
        WIDTH_64
        WIDTH_128
        WIDTH_V
        WIDTH_Y
        WIDTH_Z
        WIDTH_RV_MW
        WIDTH_RY_MW
        WIDTH_80

    enum:
        IMM_NONE
        IMM_ONE
        IMM_8
        IMM_8_SIGNED
        IMM_16
        IMM_Z
        IMM_V
        IMM_FAR
        IMM_16_8
        IMM_X87

    enum:
        RM_NONE
        RM_MODRM
        RM_OPCODE
        RM_ACCUMULATOR
        RM_ABSOLUTE
        RM_MMX
        REG_NONE
        REG_GENERAL
        REG_SEGMENT
        REG_CONTROL
        REG_DEBUG
        REG_TEST
        REG_FIXED
        REG_MMX
        MOD_MEMORY
        MOD_REGISTER
        OPCODE_MODRM
        OPCODE_MOD_IGNORED

    ctypedef struct OpcodeRows:
        uint16_t first
        uint8_t count
        uint8_t flags

cdef extern from "generated/decode_tables.h" nogil:
    const InsnRow insn_rows[]
    const OpcodeRows opcode_rows[4][256]

cdef enum:
    MAX_LENGTH = 15
    MODE_64_BIT = 4  # of InsnRow.modes
    NO_OVERRIDE = 0xFF  # of Insn.segment, while the prefixes are read
    CONTROL_REGISTERS = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 8

ALL_FEATURES = (1 << 64) - 1

# The base and index of 16-bit addressing, by rm (SDM volume 2, table 2-1).
cdef uint8_t[8] BASE_16 = [REG_RBX, REG_RBX, REG_RBP, REG_RBP, REG_RSI, REG_RDI, REG_RBP, REG_RBX]
cdef uint8_t[8] INDEX_16 = [
    REG_RSI, REG_RDI, REG_RSI, REG_RDI, REG_ZERO, REG_ZERO, REG_ZERO, REG_ZERO
]


cdef struct Cursor:
    const uint8_t* next
    const uint8_t* end


cdef inline bint read_signed(Cursor* cursor, int size, int64_t* value) noexcept nogil:
    """Reads `size` bytes, sign-extended; false if they are not there."""
    cdef int8_t byte
    cdef int16_t word
    cdef int32_t dword
    if cursor.end - cursor.next < size:
        return False
    if size == 1:
        memcpy(&byte, cursor.next, 1)
        value[0] = byte
    elif size == 2:
        memcpy(&word, cursor.next, 2)
        value[0] = word
    elif size == 4:
        memcpy(&dword, cursor.next, 4)
        value[0] = dword
    else:
        memcpy(value, cursor.next, 8)
    cursor.next += size
    return True


cdef inline int width_bits(int width, int operand_size, bint is_mem) noexcept nogil:
    if width <= WIDTH_128:
        return 8 << width
    if width == WIDTH_Z:
        return operand_size if operand_size < 32 else 32
    if is_mem and (width == WIDTH_RV_MW or width == WIDTH_RY_MW):
        return 16
    if width == WIDTH_Y or width == WIDTH_RY_MW:
        return operand_size if operand_size > 32 else 32
    if width == WIDTH_80:
        return 80
    return operand_size


cdef inline uint8_t register_offset(int register, int bits, int rex) noexcept nogil:
    """Without REX, byte registers 4 to 7 are AH, CH, DH, BH (SDM volume 1, section 3.4.1.1)."""
    if bits == 8 and rex == 0 and 4 <= register < 8:
        return <uint8_t> (8 * (register - 4) + 1)
    return <uint8_t> (8 * register)


cdef inline bint read_address_16(Cursor* cursor, int mod, int rm, Insn* out) noexcept nogil:
    if mod == 0 and rm == 6:
        return read_signed(cursor, 2, &out.disp)
    out.base = BASE_16[rm]
    out.index = INDEX_16[rm]
    return mod == 0 or read_signed(cursor, mod, &out.disp)


cdef inline bint read_address(Cursor* cursor, int mod, int rm, int mode, Insn* out) noexcept nogil:
    """32- and 64-bit addressing (SDM volume 2, tables 2-2 and 2-3)."""
    cdef int sib
    cdef int base = rm
    if rm == 4:
        if cursor.next == cursor.end:
            return False
        sib = cursor.next[0]
        cursor.next += 1
        out.scale = <uint8_t> (sib >> 6)
        out.index = <uint8_t> ((sib >> 3 & 7) | (8 if out.rex & REX_X else 0))
        if out.index == REG_RSP:  # REX.X makes it R12
            out.index = REG_ZERO
            out.scale = 0
        base = sib & 7
    if mod == 0 and base == 5:
        out.rip_relative = rm == 5 and mode == 64
        return read_signed(cursor, 4, &out.disp)
    out.base = <uint8_t> (base | (8 if out.rex & REX_B else 0))
    return mod == 0 or read_signed(cursor, 1 if mod == 1 else 4, &out.disp)


cdef inline bint read_immediate(Cursor* cursor, int kind, int operand_size, Insn* out) noexcept nogil:
    cdef int64_t second
    if kind == IMM_NONE:
        return True
    if kind == IMM_8_SIGNED:
        return read_signed(cursor, 1, &out.imm)
    if kind == IMM_8:
        if not read_signed(cursor, 1, &out.imm):
            return False
        out.imm &= 0xFF
        return True
    if kind == IMM_Z:
        return read_signed(cursor, 2 if operand_size == 16 else 4, &out.imm)
    if kind == IMM_V:
        return read_signed(cursor, operand_size >> 3, &out.imm)
    if kind == IMM_ONE:
        out.imm = 1
        return True
    if kind == IMM_FAR:
        if not read_signed(cursor, operand_size >> 3, &out.imm) or not read_signed(cursor, 2, &second):
            return False
        out.imm2 = <uint16_t> second
        if operand_size == 16:
            out.imm &= 0xFFFF
        else:
            out.imm &= <int64_t> 0xFFFFFFFF
        return True
    if not read_signed(cursor, 2, &out.imm):
        return False
    out.imm &= 0xFFFF
    if kind == IMM_16_8:
        if not read_signed(cursor, 1, &second):
            return False
        out.imm2 = <uint8_t> second
    return True


cdef inline bint is_vector(int opcode, int next_byte, int mode) noexcept nogil:
    """Does this opcode begin a VEX, EVEX or XOP encoding, and not LES, LDS, BOUND or POP?

    Outside of 64-bit mode that is told by what those do not have: registers in ModRM, a digit from 1 on with XOP's
    maps from 8 on (SDM volume 2, section 2.3.5 and 2.7.1; APM volume 3, section 1.2.7).
    """
    if opcode == 0x8F:
        return next_byte & 0x1F >= 8
    return mode == 64 or next_byte >= 0xC0


cdef bint skip_vector(Cursor* cursor, int opcode, int mode, Insn* out) noexcept nogil:
    """Passes over a VEX (C4, C5), EVEX (62) or XOP (8F) instruction behind that byte; false if bytes are missing.

    No level has such instructions: nothing but their length is found out.
    """
    cdef int payload = 1 if opcode == 0xC5 else 3 if opcode == 0x62 else 2
    cdef int vector_map = 1
    cdef int operation, modrm, immediate
    cdef int addrsize = mode
    cdef int64_t ignored
    if out.prefixes & PREFIX_ADDRSIZE:
        addrsize = 32 if mode == 64 else mode ^ 48
    if cursor.end - cursor.next < payload + 1:
        return False
    if opcode != 0xC5:
        vector_map = cursor.next[0] & (7 if opcode == 0x62 else 0x1F)
    operation = cursor.next[payload]
    cursor.next += payload + 1
    if vector_map != 1 or operation != 0x77:  # VZEROUPPER and VZEROALL have no ModRM
        if cursor.next == cursor.end:
            return False
        modrm = cursor.next[0]
        cursor.next += 1
        if modrm < 0xC0 and not (read_address_16(cursor, modrm >> 6, modrm & 7, out) if addrsize == 16
                                 else read_address(cursor, modrm >> 6, modrm & 7, mode, out)):
            return False
    if vector_map == 10:
        immediate = 4
    elif vector_map == 1:
        immediate = 0x70 <= operation <= 0x73 or operation == 0xC2 or 0xC4 <= operation <= 0xC6
    else:
        immediate = vector_map == 3 or vector_map == 8
    return immediate == 0 or read_signed(cursor, immediate, &ignored)


cdef inline int out_of_bytes(int available) noexcept nogil:
    return DECODE_TOO_LONG if available >= MAX_LENGTH else DECODE_NEED_MORE


cdef int refuse_vector(Cursor* cursor, const uint8_t* code, int available, int opcode, int mode, Insn* out) noexcept nogil:
    """DECODE_UNDEFINED, with the length, for a VEX, EVEX or XOP instruction; 0 if it is none; or what `decode` says of its bytes."""
    if cursor.next == cursor.end:
        return out_of_bytes(available)
    if not is_vector(opcode, cursor.next[0], mode):
        return 0
    if not skip_vector(cursor, opcode, mode, out):
        return out_of_bytes(available)
    out.length = <uint8_t> (cursor.next - code)
    return DECODE_UNDEFINED


cdef inline int read_prefixes(Cursor* cursor, int mode, Insn* out) noexcept nogil:
    """Reads prefixes and the first byte of the opcode, which it returns; -1 if the bytes end before it."""
    cdef int byte
    out.segment = NO_OVERRIDE
    while cursor.next != cursor.end:
        byte = cursor.next[0]
        cursor.next += 1
        if mode == 64 and byte & 0xF0 == 0x40:
            out.rex = <uint8_t> byte
            continue
        if byte == 0x66:
            out.prefixes |= PREFIX_OPSIZE
        elif byte == 0x67:
            out.prefixes |= PREFIX_ADDRSIZE
        elif byte == 0xF0:
            out.prefixes |= PREFIX_LOCK
        elif byte == 0xF2:
            out.prefixes = <uint8_t> (out.prefixes & ~PREFIX_REP | PREFIX_REPNE)
        elif byte == 0xF3:
            out.prefixes = <uint8_t> (out.prefixes & ~PREFIX_REPNE | PREFIX_REP)
        elif byte & 0xE7 == 0x26:
            if mode != 64:  # in 64-bit mode these four have no effect (SDM volume 1, section 3.3.7.1)
                out.segment = <uint8_t> (byte >> 3 & 3)
        elif byte == 0x64 or byte == 0x65:
            out.segment = <uint8_t> (byte & 7)
        else:
            return byte
        out.rex = 0  # REX counts only right before the opcode (SDM volume 2, section 2.2.1)
    return -1


cdef inline int read_escapes(Cursor* cursor, int first, int* map_number) noexcept nogil:
    """The opcode and its map, where `first` is 0F or the opcode itself; -1 if the bytes end before it."""
    cdef int opcode
    map_number[0] = 0
    if first != 0x0F:
        return first
    map_number[0] = 1
    while cursor.next != cursor.end:
        opcode = cursor.next[0]
        cursor.next += 1
        if map_number[0] != 1 or opcode & 0xFD != 0x38:
            return opcode
        map_number[0] = 2 + (opcode >> 1 & 1)
    return -1


cdef inline const InsnRow* matching_row(const OpcodeRows* entry, int mode, int mod, int modrm, uint64_t features, const Insn* insn) noexcept nogil:
    """The first of an opcode's rows that exists with this ModRM byte and these prefixes; NULL if none does."""
    cdef const InsnRow* row
    cdef int mode_bit = mode >> 4
    cdef int mod_bit = MOD_REGISTER if mod == 3 else MOD_MEMORY
    cdef int prefix_bit = 4 if insn.prefixes & PREFIX_REP else 8 if insn.prefixes & PREFIX_REPNE \
        else 2 if insn.prefixes & PREFIX_OPSIZE else 1
    cdef int i
    for i in range(entry.count):
        row = &insn_rows[entry.first + i]
        if row.modes & mode_bit and row.prefixes & prefix_bit and row.mods & mod_bit \
                and modrm & row.modrm_mask == row.modrm_value \
                and not (row.flags & ROW_REX_W and not insn.rex & REX_W) \
                and not (row.flags & ROW_NO_REX_W and insn.rex & REX_W) \
                and not (row.flags & ROW_NO_REX_B and insn.rex & REX_B) \
                and features >> row.feature & 1:
            return row
    return NULL


cdef inline int operand_size_of(const InsnRow* row, int mode, const Insn* insn) noexcept nogil:
    """The operand-size attribute in bits (SDM volume 1, tables 3-3 and 3-4)."""
    if mode != 64:
        return mode ^ 48 if insn.prefixes & PREFIX_OPSIZE else mode
    if row.flags & ROW_F64 or insn.rex & REX_W:
        return 64
    if insn.prefixes & PREFIX_OPSIZE:
        return 16
    return 64 if row.flags & ROW_D64 else 32


cdef inline int address_size_of(int mode, const Insn* insn) noexcept nogil:
    if mode == 64:
        return 32 if insn.prefixes & PREFIX_ADDRSIZE else 64
    return mode ^ 48 if insn.prefixes & PREFIX_ADDRSIZE else mode


cdef inline void describe(const InsnRow* row, int opcode, int mod, int operand_size, Insn* out) noexcept nogil:
    """What the row says, at this operand size."""
    out.is_mem = mod != 3 or row.rm_source == RM_ABSOLUTE
    out.row = <uint16_t> (row - &insn_rows[0])
    out.family = row.family
    out.form = row.form
    out.cc = opcode & 0xF
    out.opsize = <uint8_t> width_bits(row.width, operand_size, out.is_mem)
    out.opsize2 = <uint8_t> width_bits(row.width2, operand_size, out.is_mem)
    out.cost = row.cost
    if row.flags & ROW_SIZED_COST:
        out.cost += 3 if out.opsize == 64 else <uint8_t> (out.opsize >> 4)


cdef inline bint read_rm(Cursor* cursor, const InsnRow* row, int mode, int opcode, int mod, int modrm, Insn* out) noexcept nogil:
    """The operand that is a register or memory; false if bytes of its address are missing."""
    if row.rm_source == RM_ABSOLUTE:
        if not read_signed(cursor, out.addrsize >> 3, &out.disp):
            return False
        if out.addrsize == 16:
            out.disp &= 0xFFFF
        elif out.addrsize == 32:
            out.disp &= <int64_t> 0xFFFFFFFF
    elif mod != 3:
        if out.addrsize == 16:
            return read_address_16(cursor, mod, modrm & 7, out)
        return read_address(cursor, mod, modrm & 7, mode, out)
    elif row.rm_source == RM_MMX:
        out.rm = <uint8_t> (modrm & 7)
    elif row.rm_source != RM_ACCUMULATOR:
        out.rm = <uint8_t> (((opcode if row.rm_source == RM_OPCODE else modrm) & 7) | (8 if out.rex & REX_B else 0))
    return True


cdef inline bint name_reg(const InsnRow* row, int modrm, Insn* out) noexcept nogil:
    """The operand that is a register always; false if there is no such control, debug, test or segment register."""
    out.reg = <uint8_t> (modrm >> 3 & 7)
    if row.reg_source == REG_FIXED:
        out.reg = row.fixed_reg
    elif row.reg_source == REG_SEGMENT:
        return out.reg <= SEG_GS and not (out.reg == SEG_CS and row.width == WIDTH_16)
    elif out.rex & REX_R and row.reg_source != REG_MMX:
        out.reg |= 8
    if row.reg_source == REG_CONTROL:
        return CONTROL_REGISTERS >> out.reg & 1
    if row.reg_source == REG_DEBUG:
        return out.reg < 8
    return row.reg_source != REG_TEST or out.reg >= 3


cdef int decode(const uint8_t* code, int available, int mode, uint64_t features, Insn* out) noexcept nogil:
    """Decodes the instruction at `code`, of which `available` bytes may be read, in `mode` 16, 32 or 64.

    `features` has the bits of what the processor has (hvmx.isa.feature_mask): there are no other rows. Returns its
    length in bytes, or DECODE_NEED_MORE, DECODE_TOO_LONG or DECODE_UNDEFINED; `out` is only whole if there is a length.
    """
    cdef Cursor cursor
    cdef const OpcodeRows* entry
    cdef const InsnRow* row
    cdef int opcode, map_number, operand_size, error
    cdef int modrm = 0, mod = 3

    memset(out, 0, sizeof(Insn))
    out.base = REG_ZERO
    out.index = REG_ZERO
    cursor.next = code
    cursor.end = code + (available if available < MAX_LENGTH else MAX_LENGTH)

    opcode = read_prefixes(&cursor, mode, out)
    if opcode < 0:
        return out_of_bytes(available)
    if opcode == 0xC4 or opcode == 0xC5 or opcode == 0x62 or opcode == 0x8F:
        error = refuse_vector(&cursor, code, available, opcode, mode, out)
        if error != 0:
            return error
    opcode = read_escapes(&cursor, opcode, &map_number)
    if opcode < 0:
        return out_of_bytes(available)

    entry = &opcode_rows[map_number][opcode]
    if entry.count == 0:
        return DECODE_UNDEFINED
    if entry.flags & OPCODE_MODRM:
        if cursor.next == cursor.end:
            return out_of_bytes(available)
        modrm = cursor.next[0]
        cursor.next += 1
        if not entry.flags & OPCODE_MOD_IGNORED:
            mod = modrm >> 6
    row = matching_row(entry, mode, mod, modrm, features, out)
    if row == NULL:
        return DECODE_UNDEFINED

    operand_size = operand_size_of(row, mode, out)
    out.addrsize = <uint8_t> address_size_of(mode, out)
    describe(row, opcode, mod, operand_size, out)
    if not read_rm(&cursor, row, mode, opcode, mod, modrm, out):
        return out_of_bytes(available)
    if row.immediate == IMM_X87:
        out.imm = (opcode & 7) << 8 | modrm
    elif not read_immediate(&cursor, row.immediate, operand_size, out):
        return out_of_bytes(available)
    if not name_reg(row, modrm, out):
        return DECODE_UNDEFINED
    if out.prefixes & PREFIX_LOCK and not (row.flags & ROW_LOCK and out.is_mem):
        return DECODE_UNDEFINED
    if out.segment == NO_OVERRIDE:
        out.segment = SEG_SS if out.base == REG_RSP or out.base == REG_RBP else SEG_DS
    out.reg_offset = register_offset(
        out.reg, out.opsize2 if row.form == FORM_RM_R or row.form == FORM_RM_R_I else out.opsize, out.rex)
    out.rm_offset = register_offset(out.rm, out.opsize2 if row.form == FORM_R_RM else out.opsize, out.rex)
    out.length = <uint8_t> (cursor.next - code)
    return out.length


cdef const InsnRow* row_of(const Insn* insn) noexcept nogil:
    """The row of a decoded instruction."""
    return &insn_rows[insn.row]


def decode_py(bytes code, int mode, uint64_t features=ALL_FEATURES):
    """The decoded instruction as a dict of the fields of ``Insn``, with the row itself; None for #UD.

    `features` is of ``hvmx.isa.feature_mask``. For tests and tools. Raises ValueError for a mode other than 16, 32 and
    64, EOFError where `code` ends before the instruction does, and OverflowError for one that is longer than 15 bytes.
    """
    cdef Insn insn
    cdef int length
    if mode not in (16, 32, 64):
        raise ValueError(f"mode {mode} is not 16, 32 or 64")
    length = decode(<const uint8_t*> <const char*> code, <int> min(len(code), MAX_LENGTH), mode, features, &insn)
    if length == DECODE_NEED_MORE:
        raise EOFError("the bytes end before the instruction does")
    if length == DECODE_TOO_LONG:
        raise OverflowError("the instruction is longer than 15 bytes")
    if length == DECODE_UNDEFINED:
        return None
    cdef dict fields = insn
    fields["row"] = rows()[insn.row]
    fields["family"] = families()[insn.family]
    return fields


def refused_length(bytes code, int mode):
    """The length in bytes of a VEX, EVEX or XOP instruction, none of which a level has; None for anything else.

    Raises what `decode_py` raises.
    """
    cdef Insn insn
    if decode_py(code, mode) is not None:
        return None
    decode(<const uint8_t*> <const char*> code, <int> min(len(code), MAX_LENGTH), mode, <uint64_t> ALL_FEATURES, &insn)
    return insn.length or None
