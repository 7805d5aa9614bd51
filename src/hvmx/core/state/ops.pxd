# cython: language_level=3
"""The parts of every handler: operands, lazy flags, and how it passes control to the next operation.

A handler is `cdef void NAME(Cpu *cpu, Op *op) noexcept nogil`. It ends with one of
    run_next(cpu, op)                 the next operation of the block (a call in tail position: a jump)
    branch(cpu, op, target)           to a computed instruction pointer, through the jump cache
    leave(cpu, op)                    after the instruction, to the run loop (state may have changed: mode, mapping, ...)
    fault(cpu, op, vector, error)     an exception; the state must be as before the instruction
"""
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from hvmx.core.state.state cimport *


# --- operands ---------------------------------------------------------------------------------------------------------
cdef inline uint8_t *reg8(Cpu *cpu, uint32_t offset) noexcept nogil:
    return (<uint8_t *>cpu) + offset


cdef inline uint16_t *reg16(Cpu *cpu, uint32_t offset) noexcept nogil:
    return <uint16_t *>((<uint8_t *>cpu) + offset)


cdef inline uint32_t *reg32(Cpu *cpu, uint32_t offset) noexcept nogil:
    return <uint32_t *>((<uint8_t *>cpu) + offset)


cdef inline uint64_t *reg64(Cpu *cpu, uint32_t offset) noexcept nogil:
    return <uint64_t *>((<uint8_t *>cpu) + offset)


cdef inline void set8(Cpu *cpu, uint32_t offset, uint8_t value) noexcept nogil:
    reg8(cpu, offset)[0] = value


cdef inline void set16(Cpu *cpu, uint32_t offset, uint16_t value) noexcept nogil:
    reg16(cpu, offset)[0] = value


cdef inline void set32(Cpu *cpu, uint32_t offset, uint32_t value) noexcept nogil:
    reg64(cpu, offset)[0] = value


cdef inline void set64(Cpu *cpu, uint32_t offset, uint64_t value) noexcept nogil:
    reg64(cpu, offset)[0] = value


# What an Op says of its instruction. decode/blocks.pyx packs it, handlers and the translator read it by these names.
#
# Op.x is the condition where the instruction has one (ROW_CONDITION), and else the sizes of operands and addresses, and
# the repeat prefix. An address Op has it like the operation that it comes before, but never a condition.
cdef enum:
    SIZE_8 = 0             # a size: log2 of its bytes
    SIZE_16 = 1
    SIZE_32 = 2
    SIZE_64 = 3

    OPERAND_SIZE = 3       # bits of Op.x
    ADDRESS_SIZE_AT = 2
    REPEAT_F3 = 16         # REP, REPE: instructions that do not compare repeat with either prefix
    REPEAT_F2 = 32         # REPNE


cdef inline uint32_t size_of_bits(uint32_t bits) noexcept nogil:
    return SIZE_8 if bits == 8 else SIZE_16 if bits == 16 else SIZE_32 if bits == 32 else SIZE_64


cdef inline uint8_t packed_sizes(uint32_t operand_bits, uint32_t address_bits) noexcept nogil:
    return <uint8_t>(size_of_bits(operand_bits) | size_of_bits(address_bits) << ADDRESS_SIZE_AT)


cdef inline uint32_t condition_code(Op *op) noexcept nogil:
    return op.x


cdef inline uint32_t operand_size(Op *op) noexcept nogil:
    return op.x & OPERAND_SIZE


cdef inline uint32_t operand_bytes(Op *op) noexcept nogil:
    return <uint32_t>1 << operand_size(op)


cdef inline uint32_t operand_bits(Op *op) noexcept nogil:
    return <uint32_t>8 << operand_size(op)


cdef inline uint32_t address_size(Op *op) noexcept nogil:
    return (op.x >> ADDRESS_SIZE_AT) & OPERAND_SIZE


cdef inline uint64_t address_mask(Op *op) noexcept nogil:
    cdef uint32_t size = address_size(op)
    return 0xffff if size == SIZE_16 else <uint64_t>0xffffffff if size == SIZE_32 else ~<uint64_t>0


cdef inline uint64_t within_address_size(Op *op, uint64_t offset) noexcept nogil:
    cdef uint32_t size = address_size(op)
    return <uint16_t>offset if size == SIZE_16 else <uint32_t>offset if size == SIZE_32 else offset


cdef inline bint is_repeated(Op *op) noexcept nogil:
    return op.x & (REPEAT_F3 | REPEAT_F2) != 0


cdef inline bint repeats_while_equal(Op *op) noexcept nogil:
    return op.x & REPEAT_F3 != 0


# Op.imm of an address Op: how the operand is accessed; that of a guard: the flags of the instruction's row.
cdef enum:
    ACCESS_BYTES = 0xff
    ACCESS_WRITES = 0x100
    ACCESS_ALIGNED = 0x200


cdef inline int64_t packed_access(uint32_t bytes, bint writes, bint aligned) noexcept nogil:
    return bytes | (ACCESS_WRITES if writes else 0) | (ACCESS_ALIGNED if aligned else 0)


cdef inline uint32_t access_bytes(Op *op) noexcept nogil:
    return <uint32_t>op.imm & ACCESS_BYTES


cdef inline bint access_writes(Op *op) noexcept nogil:
    return op.imm & ACCESS_WRITES != 0


cdef inline bint access_must_be_aligned(Op *op) noexcept nogil:
    return op.imm & ACCESS_ALIGNED != 0


cdef inline uint32_t guarded_flags(Op *op) noexcept nogil:
    return <uint32_t>op.imm


# The immediate, as instructions read it: a shift count (SDM vol. 2, SAL), or the low part of what may have been
# sign-extended.
cdef inline uint32_t shift_mask(uint32_t width) noexcept nogil:
    return 63 if width == 64 else 31


cdef inline uint32_t shift_count(Op *op, uint32_t width) noexcept nogil:
    return <uint32_t>op.imm & shift_mask(width)


cdef inline uint32_t immediate8(Op *op) noexcept nogil:
    return <uint8_t>op.imm


cdef inline uint32_t immediate16(Op *op) noexcept nogil:
    return <uint16_t>op.imm


# The number of a register, from its byte offset (Op.d, s, b, i); and is that one AH, CH, DH or BH?
cdef inline uint32_t register_number(uint32_t offset) noexcept nogil:
    return offset >> 3


cdef inline bint is_high_byte(uint32_t offset) noexcept nogil:
    return offset & 7 != 0


# --- control ----------------------------------------------------------------------------------------------------------
cdef inline uint64_t next_ip(Op *op) noexcept nogil:
    return op.ip + op.len


cdef inline void run_next(Cpu *cpu, Op *op) noexcept nogil:
    go_on(cpu, op + 1)


cdef inline JumpEntry *jump_entry(Cpu *cpu, uint64_t target) noexcept nogil:
    return &cpu.jcache[(target ^ (target >> 12)) & (JCACHE_ENTRIES - 1)]


cdef inline void enter(Cpu *cpu, uint64_t target) noexcept nogil:
    """Go on at `target`, when all is accounted for: through the jump cache, or on a miss through the run loop."""
    cdef JumpEntry *entry = jump_entry(cpu, target)
    if LIKELY(entry.key == target ^ cpu.mode_key):
        arrive_at(cpu, entry.op)
        go_on(cpu, entry.op)
        return
    cpu.rip = target


cdef inline void go_way(Cpu *cpu, Op *op, Op *target) noexcept nogil:
    """Account for the chain through the branch `op`, and be at `target`."""
    cdef Way *way = &ways_of(cpu.node)[op.way]
    if LIKELY(way.target == target):
        cpu.acct += way.cost
        cpu.node = way.next
    else:
        cpu.go_through(cpu, op, target)


cdef inline void branch(Cpu *cpu, Op *op, uint64_t target) noexcept nogil:
    cdef JumpEntry *entry = jump_entry(cpu, target)
    if LIKELY(entry.key == target ^ cpu.mode_key):
        go_way(cpu, op, entry.op)
        if LIKELY(cpu.acct < 0):
            go_on(cpu, entry.op)
            return
    else:
        account(cpu, op)
    cpu.rip = target


# A direct branch: to the linked block, or to the run loop, which looks the target up, and links it on the same page.
cdef inline void follow(Cpu *cpu, Op *op) noexcept nogil:
    cdef Op *target = op.target
    if LIKELY(target != NULL):
        go_way(cpu, op, target)
        if LIKELY(cpu.acct < 0):
            go_on(cpu, target)
            return
        cpu.resume = target
    else:
        account(cpu, op)
        cpu.link_from = op
    cpu.rip = <uint64_t>op.imm


cdef inline void leave(Cpu *cpu, Op *op) noexcept nogil:
    account(cpu, op)
    cpu.rip = next_ip(op)


cdef inline void leave_to(Cpu *cpu, Op *op, uint64_t target) noexcept nogil:
    account(cpu, op)
    cpu.rip = target


cdef inline bint bad_target(Cpu *cpu, uint64_t target) noexcept nogil:
    """Must a near branch to it raise #GP(0)? It is beyond the limit of CS, or not canonical in 64-bit mode."""
    if cpu.mode & MODE_WIDTH == MODE_64:
        return (target + (<uint64_t>1 << 47)) >> 48 != 0
    return target > cpu.seg[SEG_CS].limit


cdef inline void rewind(Cpu *cpu, Op *op) noexcept nogil:
    """Leave the block before this instruction: account for what comes before it, and set cpu.rip to it."""
    cpu.account_before(cpu, op)
    cpu.rip = op.ip


cdef inline void fault(Cpu *cpu, Op *op, uint32_t vector, uint32_t error) noexcept nogil:
    """Raise an exception; the error code only counts where the vector has one (SDM vol. 3, table 6-1)."""
    cpu.fault = FAULT_EXCEPTION
    cpu.fault_vector = vector
    cpu.fault_error = error
    if op != NULL:
        rewind(cpu, op)


cdef inline OpFn own_handler(Cpu *cpu, Op *op) noexcept nogil:
    """The handler of just this operation. If a trace replaces it, it is stored in front of the trace's code."""
    if <uint64_t>op.fn - <uint64_t>cpu.host_code < cpu.host_code_size:
        return (<OpFn *>op.fn - 1)[0]
    return op.fn


# --- flags (see Cpu.fl_res in state.h) ----------------------------------------------------------------------------------
cdef inline bint flag_cf(Cpu *cpu) noexcept nogil:
    return cpu.fl_cf & 1


cdef inline bint flag_zf(Cpu *cpu) noexcept nogil:
    return cpu.fl_res == 0


cdef inline bint flag_sf(Cpu *cpu) noexcept nogil:
    return (<uint64_t>cpu.fl_res >> 63) ^ ((cpu.fl_cf >> 16) & 1)


cdef inline bint flag_of(Cpu *cpu) noexcept nogil:
    return (<uint64_t>cpu.fl_aux >> 63) ^ (cpu.fl_cf & 1)


cdef inline bint flag_af(Cpu *cpu) noexcept nogil:
    return (cpu.fl_aux >> 4) & 1


cdef inline bint flag_pf(Cpu *cpu) noexcept nogil:
    cdef uint32_t bits = <uint8_t>cpu.fl_res
    bits ^= bits >> 4
    return ((0x9669 >> (bits & 15)) & 1) ^ ((cpu.fl_cf >> 8) & 1)


cdef inline uint32_t arithmetic_flags(Cpu *cpu) noexcept nogil:
    """The six arithmetic flags at their places in RFLAGS."""
    return (flag_cf(cpu) * FL_CF | flag_pf(cpu) * FL_PF | flag_af(cpu) * FL_AF | flag_zf(cpu) * FL_ZF
            | flag_sf(cpu) * FL_SF | flag_of(cpu) * FL_OF)


cdef inline void set_arithmetic_flags(Cpu *cpu, uint64_t flags) noexcept nogil:
    """Load the six arithmetic flags from their places in `flags`, whatever their combination."""
    cdef uint64_t cf = flags & FL_CF
    cdef bint zf = (flags & FL_ZF) != 0, sf = (flags & FL_SF) != 0, pf = (flags & FL_PF) != 0
    # ZF set: result 0 (SF clear, PF set); else result 1 (SF clear, PF clear). The rest is flipped.
    cpu.fl_res = 0 if zf else 1
    cpu.fl_cf = cf | (<uint64_t>(pf != zf) << 8) | (<uint64_t>sf << 16)
    cpu.fl_aux = <int64_t>((flags & FL_AF) | (<uint64_t>(((flags & FL_OF) != 0) != (cf != 0)) << 63))


cdef inline void set_cf(Cpu *cpu, bint value) noexcept nogil:
    """Change CF and nothing else (OF is stored relative to CF)."""
    cdef uint64_t change = (cpu.fl_cf ^ <uint64_t>value) & 1
    cpu.fl_cf ^= change
    cpu.fl_aux ^= <int64_t>(change << 63)


cdef inline void set_logic_flags(Cpu *cpu, int64_t result) noexcept nogil:
    """After AND, OR, XOR, TEST: `result` is sign-extended from the operand's width; CF = OF = 0; AF (undefined) = 0."""
    cpu.fl_res = result
    cpu.fl_aux = 0
    cpu.fl_cf = 0


cdef inline void set_cf_of(Cpu *cpu, int64_t result, bint cf, bint of) noexcept nogil:
    """Result flags of `result` (sign-extended), with CF and OF as given, AF = 0."""
    cpu.fl_res = result
    cpu.fl_cf = cf
    cpu.fl_aux = <int64_t>(<uint64_t>(cf != of) << 63)


cdef inline void set_zf(Cpu *cpu, bint value) noexcept nogil:
    """Change ZF and nothing else."""
    set_arithmetic_flags(cpu, (arithmetic_flags(cpu) & ~<uint32_t>FL_ZF) | (FL_ZF if value else 0))


cdef inline uint64_t read_rflags(Cpu *cpu) noexcept nogil:
    return cpu.rflags | 2 | arithmetic_flags(cpu)


# --- memory operands ----------------------------------------------------------------------------------------------------
cdef inline uint64_t address32(Cpu *cpu, Op *op) noexcept nogil:
    return <uint32_t>(reg64(cpu, op.b)[0] + (reg64(cpu, op.i)[0] << op.scale) + <uint64_t>op.disp)


cdef inline uint64_t address64(Cpu *cpu, Op *op) noexcept nogil:
    return reg64(cpu, op.b)[0] + (reg64(cpu, op.i)[0] << op.scale) + <uint64_t>op.disp


# Where there is no index register: the scale's shift would cost more than all the rest.
cdef inline uint64_t address_base_32(Cpu *cpu, Op *op) noexcept nogil:
    return <uint32_t>(reg64(cpu, op.b)[0] + <uint64_t>op.disp)


cdef inline uint64_t address_base_64(Cpu *cpu, Op *op) noexcept nogil:
    return reg64(cpu, op.b)[0] + <uint64_t>op.disp


cdef inline uint64_t address_ea(Cpu *cpu, Op *op) noexcept nogil:
    return cpu.ea


# --- conditions (the low four bits of Jcc, SETcc, CMOVcc) ----------------------------------------------------------------
cdef inline bint condition(Cpu *cpu, uint32_t code) noexcept nogil:
    cdef bint value
    if code < 2:
        value = flag_of(cpu)
    elif code < 4:
        value = flag_cf(cpu)
    elif code < 6:
        value = flag_zf(cpu)
    elif code < 8:
        value = flag_cf(cpu) or flag_zf(cpu)
    elif code < 10:
        value = flag_sf(cpu)
    elif code < 12:
        value = flag_pf(cpu)
    elif code < 14:
        value = flag_sf(cpu) != flag_of(cpu)
    else:
        value = flag_zf(cpu) or flag_sf(cpu) != flag_of(cpu)
    return value ^ (code & 1)


# --- registration -------------------------------------------------------------------------------------------------------
# Handlers are chosen by (family, form, width, address), and some have variants by the flags that they compute: each
# execution module registers its own at import.
cdef enum:
    ADDRESS_NONE = 0       # register operands only
    ADDRESS_32 = 1         # flat: base + index * scale + disp, modulo 2^32
    ADDRESS_64 = 2         # the same, modulo 2^64
    ADDRESS_EA = 3         # linear address already in cpu.ea, left by an address Op
    ADDRESS_BASE_32 = 4    # ADDRESS_32 and ADDRESS_64 without an index
    ADDRESS_BASE_64 = 5

# What is computed of the arithmetic flags. The lesser variants are for when later instructions overwrite the others
# before anybody has read them.
cdef enum:
    FLAGS_ALL = 0
    FLAGS_CARRY = 1        # no flag but CF
    FLAGS_NONE = 2

# Forms beyond those of the decoder: R_RM whose source is narrower than its destination, by the width of the source;
# and stack operations whose explicit operand is in memory.
cdef enum:
    FORM_R_RM8 = 13
    FORM_R_RM16 = 14
    FORM_R_RM32 = 15
    FORM_STACK_M = 16
    FORM_MMX = 17          # added to any of these where an operand is an MMX register

# Numbers of the families of instructions (FAM_* of generated/families.h), by name.
cdef dict family_numbers
# `width` in bits; 0 for every width. Raises KeyError for a family that the instruction table does not have.
cdef int register_handler(str family, uint32_t form, uint32_t width, uint32_t address, OpFn fn) except -1
cdef int register_variant(str family, uint32_t form, uint32_t width, uint32_t address, uint32_t flags, OpFn fn) except -1
# The handler that computes all flags, and a variant of it; NULL if there is none.
cdef OpFn handler_of(uint32_t family, uint32_t form, uint32_t width, uint32_t address) noexcept nogil
# Of a variant, the handler that computes all flags; of another handler, itself.
cdef OpFn full_handler(OpFn fn) noexcept nogil
cdef OpFn variant_of(uint32_t family, uint32_t form, uint32_t width, uint32_t address, uint32_t flags) noexcept nogil
