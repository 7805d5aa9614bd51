# cython: language_level=3
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from hvmx.core.decode.operands cimport Registers, registers_of
from hvmx.core.generated.families cimport *
from hvmx.core.state.insn cimport *
from hvmx.core.state.state cimport *


cdef inline uint8_t carry_and_others(uint32_t flags) noexcept nogil:
    """CF is renamed on its own: INC and DEC leave it alone."""
    return (1 if flags & FL_CF else 0) | (2 if flags & FL_ARITH & ~FL_CF else 0)


cdef inline bint complex_address(const Insn *insn) noexcept nogil:
    """An LEA that adds three parts."""
    return insn.family == FAM_LEA and insn.disp != 0 and insn.base != REG_ZERO and insn.index != REG_ZERO


cdef inline bint same_registers(const Insn *insn) noexcept nogil:
    return (not insn.is_mem and (insn.form == FORM_RM_R or insn.form == FORM_R_RM) and insn.opsize >= 32
            and insn.reg == insn.rm)


cdef inline bint renamed_move(const Insn *insn, const InsnRow *row, const Registers *r, const PipelineModel *m) noexcept nogil:
    """A move of a whole register to another of its kind, which the pipeline does by renaming."""
    if (insn.is_mem or not m.classes[insn.cost].only_moves or r.read_count != 1 or r.write_count != 1
            or insn.opsize < 32 or insn.opsize2 < insn.opsize):
        return False
    if r.reads[0] < READY_XMM and r.writes[0] < READY_XMM:
        return m.eliminated & ELIMINATES_GENERAL
    return m.eliminated & ELIMINATES_VECTOR and READY_XMM <= r.reads[0] < READY_X87 and READY_XMM <= r.writes[0] < READY_X87


cdef inline void place_operands(Timing *t, const Registers *r, const InsnRow *row, bint on_stack) noexcept nogil:
    """`on_stack`: RSP is the stack engine's."""
    cdef uint32_t index
    cdef uint8_t register
    for index in range(r.read_count):
        if not (on_stack and r.reads[index] == REG_RSP):
            t.reads[t.read_count] = r.reads[index]
            t.read_count += 1
    for index in range(r.write_count):
        register = r.writes[index]
        if on_stack and register == REG_RSP or t.write_count == TIMING_WRITES:
            continue
        if r.x87_push > 0 and register >= READY_X87:
            register = READY_X87 + (register - READY_X87 + r.x87_push & 7)  # as numbered behind the push
        t.writes[t.write_count] = register
        t.write_count += 1
    t.flags_read = carry_and_others(row.flags_read)
    t.flags_written = carry_and_others(row.flags_written | row.flags_undefined)
    t.x87_push = r.x87_push


cdef inline void place_address(Timing *t, const Insn *insn, const InsnRow *row, const Registers *r, uint64_t ip) noexcept nogil:
    t.base = r.base
    t.index = r.index
    t.scale = insn.scale
    t.segment = insn.segment if insn.segment >= SEG_FS else 0
    t.disp = <int32_t>(insn.disp + (<int32_t>(ip + insn.length) if insn.rip_relative else 0))
    t.width = (insn.opsize2 if insn.form == FORM_R_RM or insn.form == FORM_R_RM_I else insn.opsize) // 8
    if row.flags & ROW_MEM_READ:
        t.flags |= TIMING_LOAD
    if row.flags & ROW_MEM_WRITE:
        t.flags |= TIMING_STORE


cdef inline void place_stack(Timing *t, const Insn *insn) noexcept nogil:
    """Pushes store below the new top, pops load from the old one; a memory operand that they have besides stands for both."""
    cdef int32_t bytes = insn.opsize // 8
    cdef bint pushes = (insn.family == FAM_PUSH or insn.family == FAM_PUSH_SREG or insn.family == FAM_CALL
                        or insn.family == FAM_PUSHF)
    t.flags |= TIMING_STACK
    t.shift = -bytes if pushes else bytes + (<int32_t>insn.imm if insn.family == FAM_RET else 0)
    if insn.is_mem:
        return
    t.flags |= TIMING_STORE if pushes else TIMING_LOAD
    t.base = READY_GENERAL + REG_RSP
    t.index = READY_NONE
    t.width = <uint8_t>bytes


cdef inline void place_constant(Timing *t, const Insn *insn) noexcept nogil:
    """A constant is added to a register: stores are found again by way of it."""
    if insn.is_mem and insn.family != FAM_LEA or t.write_count != 1 or t.writes[0] >= READY_XMM or insn.opsize < 32:
        return
    if insn.family == FAM_INC:
        t.shift = 1
    elif insn.family == FAM_DEC:
        t.shift = -1
    elif insn.family == FAM_ADD and insn.form == FORM_RM_I:
        t.shift = <int32_t>insn.imm
    elif insn.family == FAM_SUB and insn.form == FORM_RM_I:
        t.shift = -<int32_t>insn.imm
    elif insn.family == FAM_LEA and insn.index == REG_ZERO and insn.base == t.writes[0]:
        t.shift = <int32_t>insn.disp
    else:
        return
    t.flags |= TIMING_SHIFTS


cdef void time_instruction(const Insn *insn, const InsnRow *row, uint64_t ip, const PipelineModel *m, Timing *t) noexcept nogil:
    cdef Registers r
    cdef uint32_t traits = m.traits[insn.family]
    cdef bint on_stack = row.flags & ROW_STACK and insn.family != FAM_LEAVE and insn.family != FAM_ENTER
    memset(t, 0, sizeof(Timing))
    registers_of(insn, &r)
    t.cost = COST_LEA_COMPLEX if complex_address(insn) else insn.cost
    t.base = t.index = READY_NONE
    place_operands(t, &r, row, on_stack)
    if insn.is_mem and not row.flags & ROW_UNACCESSED:
        place_address(t, insn, row, &r, ip)
    elif insn.is_mem:
        t.base = r.base
        t.index = r.index
    if on_stack:
        place_stack(t, insn)
    elif insn.family == FAM_LEAVE:
        t.flags |= TIMING_LOAD
        t.base = READY_GENERAL + REG_RBP
        t.width = insn.opsize // 8
    place_constant(t, insn)
    if insn.is_mem and row.flags & ROW_UNACCESSED:  # LEA: its address is what it computes with
        place_address_reads(t)
    if m.classes[insn.cost].only_moves:
        t.flags |= TIMING_ONLY_MOVES
    if row.flags & (ROW_SSE | ROW_MMX | ROW_X87):
        t.flags |= TIMING_VECTOR
    elif t.flags & TIMING_LOAD and t.width >= 4 and (t.cost == COST_MOV or t.flags & (TIMING_STORE | TIMING_STACK)
                                                     or insn.family == FAM_LEAVE):
        t.flags |= TIMING_WHOLE
    if insn.form == FORM_REL and not row.flags & ROW_ENDS_BLOCK:
        t.flags |= TIMING_CONDITIONAL
    elif insn.family == FAM_JMP or insn.family == FAM_CALL or insn.family == FAM_RET:
        t.flags |= TIMING_TAKEN
    if traits & TRAIT_FUSES and t.flags_written:
        t.flags |= TIMING_FUSES
    if traits & TRAIT_ZEROES and same_registers(insn):
        t.flags |= TIMING_ZEROES
        t.read_count = 0
    if renamed_move(insn, row, &r, m):
        t.flags |= TIMING_ELIMINATED
    if insn.prefixes & (PREFIX_REP | PREFIX_REPNE) and row.flags & ROW_STRING and not row.flags & ROW_ENDS_BLOCK:
        t.flags |= TIMING_REPEATED
        t.string = string_kind(insn.family)
        t.width = insn.opsize // 8
    if insn.family == FAM_FXCH:
        t.flags |= TIMING_EXCHANGES
    if insn.prefixes & PREFIX_LOCK or insn.is_mem and row.flags & ROW_LOCKED:
        t.flags |= TIMING_LOCKED
    if not t.flags & (TIMING_ELIMINATED | TIMING_EXCHANGES):
        t.vectors = vectors_written(t)


cdef inline uint8_t vectors_written(const Timing *t) noexcept nogil:
    cdef uint32_t index
    cdef uint8_t count = 0
    for index in range(t.write_count):
        count += READY_XMM <= t.writes[index] < READY_CARRY
    return count


cdef inline uint8_t string_kind(uint32_t family) noexcept nogil:
    return (STRING_MOVS if family == FAM_MOVS else STRING_STOS if family == FAM_STOS else STRING_LODS if family == FAM_LODS
            else STRING_CMPS if family == FAM_CMPS else STRING_SCAS)


cdef inline void place_address_reads(Timing *t) noexcept nogil:
    if t.base != READY_NONE and t.read_count < TIMING_READS:
        t.reads[t.read_count] = t.base
        t.read_count += 1
    if t.index != READY_NONE and t.read_count < TIMING_READS:
        t.reads[t.read_count] = t.index
        t.read_count += 1
    t.base = t.index = READY_NONE
