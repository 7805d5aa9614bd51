# cython: language_level=3
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from hvmx.core.host_exits cimport *
from hvmx.core.host_flags cimport *
from hvmx.core.host_memory cimport *
from hvmx.core.host_registers cimport *
from hvmx.core.ops cimport *
from hvmx.core.state cimport *
from hvmx.core.templates cimport *
from hvmx.core.translation cimport *


# --- when ---------------------------------------------------------------------------------------------------------------
# The head of a block keeps the handler of the first operation while another stands in for it, and how often the block is
# still to be entered.
cdef void watch_block(Cpu *cpu, Block *block) noexcept nogil:
    cdef Op *first = &block.head + 1
    if cpu.host_code == NULL or cpu.translate_after == TRANSLATE_NEVER:
        return
    block.head.fn = first.fn
    block.head.imm = cpu.translate_after
    first.fn = watched
    if cpu.translate_after == 0:
        translate_block(cpu, block)


cdef inline Block *block_of(Op *first) noexcept nogil:
    return <Block *>(<uint8_t *>(first - 1) - AT_HEAD)


cdef void watched(Cpu *cpu, Op *op) noexcept nogil:
    cdef Op *head = op - 1
    head.imm -= 1
    if head.imm <= 0:
        translate_block(cpu, block_of(op))
        go_on(cpu, op)
        return
    head.fn(cpu, op)


# --- what ---------------------------------------------------------------------------------------------------------------
cdef void translate_block(Cpu *cpu, Block *block) noexcept nogil:
    cdef Translation t
    cdef Op *op = &block.head + 1
    cdef Op *end = op + block.ops
    cdef const Template *template
    cdef bint ended
    op.fn = block.head.fn
    cpu.blocks_translated += 1
    while op != end:
        template = template_of(op.fn)
        if template == NULL:
            op += 1
            continue
        begin(&t, cpu, op)
        ended = False
        while template != NULL and not ended:
            t.clock += 1
            if t.exit_count > EXITS - 4 or not translate(&t, op, template):
                break
            ended = template.kind >= T_JMP
            op += 1
            template = template_of(op.fn) if op != end else NULL
        if op == t.first:
            op += 1
            continue
        if not ended:
            write_back(&t)
            settle(&t)
            go_to(&t, op)
        put_in_place(&t)
        if ended:
            return  # what follows is not reached


cdef void begin(Translation *t, Cpu *cpu, Op *first) noexcept nogil:
    t.e.at = cpu.host_code + cpu.host_code_used
    t.e.end = cpu.host_code + cpu.host_code_size
    t.e.full = 0
    t.cpu = cpu
    t.first = first
    t.first_handler = first.fn
    t.clock = 0
    t.has_tlb = False
    t.exit_count = 0
    t.now.owed.kind = OWED_NOTHING
    forget_registers(t)


cdef void put_in_place(Translation *t) noexcept nogil:
    """The code becomes the first operation's handler, if there was room for it."""
    cdef Cpu *cpu = t.cpu
    write_exits(t)
    if not t.e.full:
        t.first.fn = <OpFn>(cpu.host_code + cpu.host_code_used)
        cpu.host_code_used = (<uint64_t>(t.e.at - cpu.host_code) + 15) & ~<uint64_t>15


# --- operations ---------------------------------------------------------------------------------------------------------
cdef inline bint high_byte(uint32_t width, uint8_t offset) noexcept nogil:
    """Is it AH, CH, DH or BH? (They stay with the interpreter.)"""
    return width == 8 and offset & 7


cdef void owe(Translation *t, uint32_t kind, uint32_t width, uint32_t a, uint32_t b, int64_t immediate) noexcept nogil:
    t.now.owed.kind = <uint8_t>kind
    t.now.owed.width = <uint8_t>width
    t.now.owed.a = <uint8_t>a
    t.now.owed.b = <uint8_t>b
    t.now.owed.immediate = immediate


cdef bint translate(Translation *t, Op *op, const Template *what) noexcept nogil:
    """The code of one operation; False, with nothing written, if it is left to the interpreter after all."""
    cdef uint32_t kind = what.kind
    if kind == T_MOV:
        return move(t, op, what)
    if kind == T_EXTEND:
        return extend(t, op, what)
    if kind == T_ALU or kind == T_TEST:
        return arithmetic(t, op, what)
    if kind == T_INC or kind == T_DEC or kind == T_NEG or kind == T_NOT:
        return one_operand(t, op, what)
    if kind == T_SHIFT:
        return shift(t, op, what)
    if kind == T_IMUL or kind == T_MUL:
        multiply(t, op, what)
    elif kind == T_LEA or kind == T_XCHG or kind == T_BSWAP or kind == T_WIDEN or kind == T_WIDEN_TWO:
        rearrange(t, op, what)
    elif kind == T_SETCC or kind == T_CMOV:
        return conditional(t, op, what)
    elif kind == T_PUSH or kind == T_POP or kind == T_LEAVE:
        return stack(t, op, what)
    elif kind == T_EA:
        offset_into(t, op, what.address, HOST_RAX)
        emit_store(&t.e, 64, HOST_RAX, HOST_RDI, AT_EA_OFFSET)
        emit_store(&t.e, 64, HOST_RAX, HOST_RDI, AT_EA)
    elif kind == T_EA_BASED:
        based_address(t, op, what)
    elif kind >= T_JCC:
        branch_away(t, op, what)
    return True


cdef bint move(Translation *t, Op *op, const Template *what) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, d = op.d >> 3, source
    if what.form <= R_M and high_byte(w, op.d) or (what.form == R_R or what.form == M_R) and high_byte(w, op.s):
        return False
    if what.form <= R_M:
        release(t, d)
    if what.form == R_R:
        source = held(t, op.s >> 3)
        emit_mov(e, w, taken(t, d) if w >= 32 else changed(t, d), source)
    elif what.form == R_I:
        if w >= 32:
            emit_mov_i(e, taken(t, d), <uint64_t>op.imm if w == 64 else <uint32_t>op.imm)
        else:
            emit_mov_low_i(e, w, changed(t, d), <uint32_t>op.imm)
    elif what.form == R_M:
        linear_address(t, op, what.address)
        reach(t, op, w // 8, AT_READ)
        if w >= 32:
            load_reached(t, w, taken(t, d))
        else:
            emit_rm(e, w, 0x8a if w == 8 else 0x8b, changed(t, d), HOST_RAX, HOST_RCX, 0, 0)
    else:
        source = held(t, op.s >> 3) if what.form == M_R else HOST_NONE
        linear_address(t, op, what.address)
        reach(t, op, w // 8, AT_WRITE)
        if what.form == M_R:
            store_reached(t, w, source)
        else:
            emit_store_i(e, w, HOST_RAX, HOST_RCX, 0, <int32_t>op.imm)
    return True


cdef bint extend(Translation *t, Op *op, const Template *what) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef uint32_t d = op.d >> 3, source, target, opcode
    cdef uint32_t narrow = what.source_width
    release(t, d)
    if what.form == R_R:
        source = held(t, op.s >> 3)
        if high_byte(narrow, op.s):
            emit_mov(e, 32, HOST_RAX, source)
            emit_shift_i(e, 32, SHIFT_SHR, HOST_RAX, 8)
            source = HOST_RAX
    else:
        linear_address(t, op, what.address)
        reach(t, op, narrow // 8, AT_READ)
        source = HOST_RCX
        opcode = 0x8b if narrow == 32 else (0x0fbe if what.which else 0x0fb6) | (narrow == 16)
        if narrow == 32 and what.which:
            opcode = 0x63
        emit_rm(e, 64 if what.which and (what.width == 64 or narrow == 32) else 32, opcode, HOST_RCX, HOST_RAX, HOST_RCX, 0, 0)
    if what.width == 16:
        if what.form == R_R:
            emit_extend(e, what.which, narrow, HOST_RCX, source)
        emit_mov(e, 16, changed(t, d), HOST_RCX)
    elif what.form == R_R:
        target = taken(t, d)
        emit_extend(e, what.which, narrow, target, source)
        if what.which and what.width == 32:
            emit_mov(e, 32, target, target)
    else:
        emit_mov(e, what.width, taken(t, d), HOST_RCX)
    return True


cdef void rearrange(Translation *t, Op *op, const Template *what) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, d = op.d >> 3, a, b
    if what.kind == T_LEA:
        release(t, d)
        offset_into(t, op, what.address, HOST_RAX)
        emit_mov(e, w, taken(t, d), HOST_RAX)
    elif what.kind == T_XCHG:
        release(t, d)
        release(t, op.s >> 3)
        a = changed(t, d)
        b = changed(t, op.s >> 3)
        emit_mov(e, w, HOST_RAX, a)
        emit_mov(e, w, a, b)
        emit_mov(e, w, b, HOST_RAX)
    elif what.kind == T_BSWAP:
        release(t, d)
        a = changed(t, d)
        emit_bswap(e, w, a)
    elif what.kind == T_WIDEN:
        release(t, REG_RAX)
        a = changed(t, REG_RAX)
        emit_extend(e, True, w // 2, a, a)
        if w == 32:
            emit_mov(e, 32, a, a)
    else:
        release(t, REG_RDX)
        a = held(t, REG_RAX)
        b = taken(t, REG_RDX)
        emit_mov(e, w, b, a)
        emit_shift_i(e, w, SHIFT_SAR, b, w - 1)


cdef bint arithmetic(Translation *t, Op *op, const Template *what) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, d = op.d >> 3, s = op.s >> 3, which = what.which, kind, a = d, b = IMMEDIATE
    cdef bint keeps = what.kind == T_ALU and which != ALU_CMP
    cdef bint with_carry = what.kind == T_ALU and (which == ALU_ADC or which == ALU_SBB)
    if (what.form <= R_M and high_byte(w, op.d) or (what.form == R_R or what.form == M_R) and high_byte(w, op.s)):
        return False
    if with_carry:
        add_with_carry(t, op, what)
        return True
    kind = (OWED_TEST if what.kind == T_TEST else OWED_CMP if which == ALU_CMP else OWED_ADD if which == ALU_ADD
            else OWED_SUB if which == ALU_SUB else OWED_LOGIC)
    # An operand in memory goes to VALUE, unless nobody will need it: as the second one, or as the first and the result.
    if what.form == R_R or what.form == M_R:
        b = s
    if what.form >= R_M:
        if what.form != R_M and b != IMMEDIATE:
            held(t, b)
        if what.form == R_M:
            held(t, d)
        linear_address(t, op, what.address)
        reach(t, op, w // 8, AT_WRITE if keeps and what.form != R_M else AT_READ)
        t.now.owed.kind = OWED_NOTHING  # from here on the flags are this instruction's
        if what.form == R_M and what.quiet:
            emit_rm(e, w, which << 3 | (3 if w > 8 else 2), changed(t, d), HOST_RAX, HOST_RCX, 0, 0)
            return True
        load_reached(t, w, taken(t, VALUE))
        if what.form == R_M:
            b = VALUE
        else:
            a = VALUE
    elif keeps:
        t.now.owed.kind = OWED_NOTHING
    if keeps:
        if a == b and kind != OWED_LOGIC and not what.quiet:
            emit_mov(e, 64, taken(t, VALUE), held(t, a))
            b = VALUE
        if b == IMMEDIATE:
            emit_alu_i(e, w, which, taken(t, VALUE) if a == VALUE else changed(t, a), <int32_t>op.imm)
        else:
            emit_alu(e, w, which, taken(t, VALUE) if a == VALUE else changed(t, a), taken(t, VALUE) if b == VALUE else held(t, b))
        if a == VALUE:
            store_reached(t, w, taken(t, VALUE))
    if what.quiet:
        t.now.owed.kind = OWED_NOTHING
    else:
        owe(t, kind, w, a, b, op.imm)
    return True


cdef void add_with_carry(Translation *t, Op *op, const Template *what) noexcept nogil:
    """ADC and SBB."""
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, target = HOST_NONE, source = HOST_NONE
    settle(t)
    if what.form == R_R or what.form == M_R:
        source = held(t, op.s >> 3)
    if what.form <= R_M:
        target = changed(t, op.d >> 3)
    if what.form >= R_M:
        linear_address(t, op, what.address)
        reach(t, op, w // 8, AT_READ if what.form == R_M else AT_WRITE)
        load_reached(t, w, taken(t, VALUE))
        if what.form == R_M:
            source = taken(t, VALUE)
        else:
            target = taken(t, VALUE)
    emit_mov(e, 64, HOST_RDX, target)
    if source == HOST_NONE:
        emit_alu_i(e, 64, ALU_XOR, HOST_RDX, <int32_t>op.imm)
    else:
        emit_alu(e, 64, ALU_XOR, HOST_RDX, source)
    emit_rm(e, 32, 0x0fba, 4, HOST_RDI, HOST_NONE, 0, AT_FL_CF)  # BT: CF is bit 0
    emit_8(e, 0)
    if source == HOST_NONE:
        emit_alu_i(e, w, what.which, target, <int32_t>op.imm)
    else:
        emit_alu(e, w, what.which, target, source)
    if what.form > R_M:
        store_reached(t, w, target)
    if what.quiet:
        return
    emit_set(e, CC_B, HOST_RAX)
    emit_store(e, 64, HOST_RAX, HOST_RDI, AT_FL_CF)
    emit_alu(e, 64, ALU_XOR, HOST_RDX, target)
    emit_extend(e, True, w, HOST_RDX, HOST_RDX)
    emit_store(e, 64, HOST_RDX, HOST_RDI, AT_FL_AUX)
    emit_extend(e, True, w, HOST_RAX, target)
    emit_store(e, 64, HOST_RAX, HOST_RDI, AT_FL_RES)


cdef bint one_operand(Translation *t, Op *op, const Template *what) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, d = op.d >> 3, target, kind = what.kind
    cdef bint counts = kind == T_INC or kind == T_DEC
    if what.form == R_R and high_byte(w, op.d):
        return False
    if what.form == M_R:
        d = VALUE
        if counts:
            settle(t)
        linear_address(t, op, what.address)
        reach(t, op, w // 8, AT_WRITE)
        if kind == T_NOT:
            emit_rm(e, w, 0xf6 | (w > 8), 2, HOST_RAX, HOST_RCX, 0, 0)
            return True
        t.now.owed.kind = OWED_NOTHING
        target = taken(t, VALUE)
        load_reached(t, w, target)
    else:
        # INC and DEC leave CF, NOT all flags: what is owed of these still is.
        if kind == T_NOT or what.quiet:
            release(t, d)
        elif counts:
            settle(t)
        target = changed(t, d)
    if counts:
        emit_alu_i(e, w, ALU_ADD if kind == T_INC else ALU_SUB, target, 1)
    else:
        emit_rr(e, w, 0xf6 | (w > 8), 2 if kind == T_NOT else 3, target)
    if what.form == M_R:
        store_reached(t, w, target)
    if kind != T_NOT and not what.quiet:
        owe(t, OWED_INC if kind == T_INC else OWED_DEC if kind == T_DEC else OWED_NEG, w, d, IMMEDIATE, 0)
    return True


cdef bint shift(Translation *t, Op *op, const Template *what) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, d = op.d >> 3, count = <uint32_t>op.imm & (63 if w == 64 else 31)
    cdef bint rotates = what.which == SHIFT_ROL or what.which == SHIFT_ROR
    if what.form == R_R:
        shift_by_cl(t, op, what)
        return True
    if count == 0 or count >= w or high_byte(w, op.d):
        return False
    if rotates:
        release(t, d)  # the other flags may still be owed
    else:
        t.now.owed.kind = OWED_NOTHING
    if not what.quiet:
        emit_mov(e, 64, taken(t, VALUE), held(t, d))
        owe(t, OWED_SHL if what.which == SHIFT_SHL else OWED_SHR if what.which == SHIFT_SHR else OWED_SAR, w,
            IMMEDIATE, IMMEDIATE, count)
    emit_shift_i(e, w, what.which, changed(t, d), count)
    return True


cdef void shift_by_cl(Translation *t, Op *op, const Template *what) noexcept nogil:
    """A count of 0 leaves the flags."""
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, target
    cdef uint8_t *nothing
    settle(t)
    target = changed(t, op.d >> 3)
    emit_mov(e, 32, HOST_RCX, held(t, REG_RCX))
    if w == 32:
        emit_mov(e, 32, target, target)
    emit_alu_i(e, 32, ALU_AND, HOST_RCX, 63 if w == 64 else 31)
    nothing = emit_jump_if(e, CC_E)
    emit_rr(e, w, 0xd3, what.which, target)
    flags_of_shift(t, what.which, w, target)
    emit_here(e, nothing)


cdef void multiply(Translation *t, Op *op, const Template *what) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, d = REG_RAX if what.kind == T_MUL else op.d >> 3
    cdef uint32_t source, target, carry
    if what.form == R_M:
        linear_address(t, op, what.address)
        reach(t, op, w // 8, AT_READ)
        load_reached(t, w, HOST_RCX)
        source = HOST_RCX
    else:
        source = held(t, (op.d if what.kind == T_MUL else op.s) >> 3)
    t.now.owed.kind = OWED_NOTHING
    if what.kind == T_MUL:
        emit_mov(e, w, HOST_RAX, held(t, REG_RAX))
        emit_rr(e, w, 0xf7, 5 if what.which else 4, source)
        carry = taken(t, VALUE)
        emit_set(e, CC_B, carry)
        emit_mov(e, w, taken(t, REG_RAX), HOST_RAX)
        emit_mov(e, w, taken(t, REG_RDX), HOST_RDX)
    else:
        if what.form == R_I:
            target = taken(t, d)
            emit_rr(e, w, 0x69, target, source)
            emit_32(e, <uint32_t>op.imm)
        else:
            target = changed(t, d)
            emit_rr(e, w, 0x0faf, target, source)
        carry = taken(t, VALUE)
        emit_set(e, CC_B, carry)
    owe(t, OWED_PRODUCT, w, d, IMMEDIATE, 0)


cdef bint conditional(Translation *t, Op *op, const Template *what) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef uint32_t d = op.d >> 3, target, source = HOST_RAX
    if what.kind == T_SETCC and high_byte(8, op.d):
        return False
    release(t, d)
    if what.kind == T_CMOV and what.form == R_M:
        free_value(t)
        linear_address(t, op, what.address)
        reach(t, op, what.width // 8, AT_READ)
        source = taken(t, VALUE)
        load_reached(t, what.width, source)
    elif what.kind == T_CMOV:
        source = held(t, op.s >> 3)
    target = changed(t, d)
    cdef uint32_t code = condition_of(t, op.x)
    if what.kind == T_CMOV:
        emit_rr(e, what.width, 0x0f40 | code, target, source)
    else:
        emit_set(e, code, HOST_RAX)
        emit_mov(e, 8, target, HOST_RAX)
    return True


cdef void based_address(Translation *t, Op *op, const Template *what) noexcept nogil:
    """As ea_based32 and ea_based64 of auxiliary.pyx."""
    cdef Emitter *e = &t.e
    cdef int32_t segment = AT_SEGMENTS + <int32_t>(op.seg * sizeof(Segment)), end
    offset_into(t, op, what.address, HOST_RAX)
    emit_load(e, 64, HOST_RCX, HOST_RDI, segment + AT_BASE)
    if what.width == 32:
        emit_alu_mi(e, 32, ALU_CMP, HOST_RDI, segment + AT_LIMIT, -1)
        leave_by(t, emit_jump_if(e, CC_NE), EXIT_ALONE, op)
        emit_load(e, 32, HOST_RDX, HOST_RDI, segment + AT_ACCESS)
        emit_alu_i(e, 32, ALU_AND, HOST_RDX, AR_UNUSABLE | 0xe)
        emit_alu_i(e, 32, ALU_CMP, HOST_RDX, 2)
        leave_by(t, emit_jump_if(e, CC_NE), EXIT_ALONE, op)
        emit_alu(e, 32, ALU_ADD, HOST_RCX, HOST_RAX)
    else:
        emit_alu(e, 64, ALU_ADD, HOST_RCX, HOST_RAX)
        # Canonical, from the first byte to behind the last: what is not goes the long way.
        for end in range(0, 2):
            emit_rm(e, 64, 0x8d, HOST_RDX, HOST_RCX, HOST_NONE, 0, end * <int32_t>(op.imm & 0xff))
            emit_shift_i(e, 64, SHIFT_SAR, HOST_RDX, 47)
            emit_alu_i(e, 64, ALU_ADD, HOST_RDX, 1)
            emit_shift_i(e, 64, SHIFT_SHR, HOST_RDX, 1)
            leave_by(t, emit_jump_if(e, CC_NE), EXIT_ALONE, op)
    emit_store(e, 64, HOST_RAX, HOST_RDI, AT_EA_OFFSET)
    emit_store(e, 64, HOST_RCX, HOST_RDI, AT_EA)


cdef bint stack(Translation *t, Op *op, const Template *what) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, n = w // 8, d = op.d >> 3, source = HOST_NONE, pointer
    if what.kind == T_PUSH:
        release(t, REG_RSP)
        if what.form == R_R:
            source = held(t, d)
        elif what.form == R_M:
            free_value(t)
            emit_load(e, 64, HOST_RAX, HOST_RDI, AT_EA)
            reach(t, op, n, AT_READ)
            source = taken(t, VALUE)
            load_reached(t, w, source)
        pointer = held(t, REG_RSP)
        emit_rm(e, w, 0x8d, HOST_RAX, pointer, HOST_NONE, 0, -<int32_t>n)
        reach(t, op, n, AT_WRITE)
        if what.form == R_I:
            emit_store_i(e, w, HOST_RAX, HOST_RCX, 0, <int32_t>op.imm)
        else:
            store_reached(t, w, source)
        emit_mov(e, 64, changed(t, REG_RSP), HOST_RAX)
        return True
    if what.kind == T_POP and d == REG_RSP:
        return False
    if what.kind == T_LEAVE:
        d = REG_RBP
    release(t, REG_RSP)
    release(t, d)
    emit_mov(e, w, HOST_RAX, held(t, REG_RBP if what.kind == T_LEAVE else REG_RSP))
    reach(t, op, n, AT_READ)
    load_reached(t, w, taken(t, d))
    emit_rm(e, w, 0x8d, taken(t, REG_RSP), HOST_RAX, HOST_NONE, 0, <int32_t>n)
    return True


cdef void push_next_ip(Translation *t, Op *op, uint32_t w) noexcept nogil:
    """Where reach() has been; the stack pointer follows."""
    cdef uint64_t next = next_ip(op)
    if w == 64 and next != <uint64_t>(<int64_t><int32_t>next):
        emit_mov_i(&t.e, HOST_RDX, next)
        store_reached(t, 64, HOST_RDX)
    else:
        emit_store_i(&t.e, w, HOST_RAX, HOST_RCX, 0, <int32_t>next)
    emit_mov(&t.e, 64, changed(t, REG_RSP), HOST_RAX)


cdef void branch_away(Translation *t, Op *op, const Template *what) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef uint32_t kind = what.kind, w = what.width, n = w // 8, code
    if kind == T_JCC or kind == T_JCC_FAR:
        code = condition_of(t, what.which)
        leave_by(t, emit_jump_if(e, code), EXIT_FOLLOW if kind == T_JCC else EXIT_FOLLOW_FAR, op)
        return
    settle(t)
    if kind == T_CALL or kind == T_CALL_FAR:
        emit_rm(e, w, 0x8d, HOST_RAX, held(t, REG_RSP), HOST_NONE, 0, -<int32_t>n)
        reach(t, op, n, AT_WRITE)
        push_next_ip(t, op, w)
    elif kind == T_RET:
        emit_mov(e, w, HOST_RAX, held(t, REG_RSP))
        reach(t, op, n, AT_READ)
        load_reached(t, w, HOST_RAX)
        known_target(t, op)
        emit_rm(e, w, 0x8d, changed(t, REG_RSP), held(t, REG_RSP), HOST_NONE, 0, <int32_t>(n + op.imm))
    elif kind == T_JMP_TO or kind == T_CALL_TO:
        if what.form == R_M:
            linear_address(t, op, what.address)
            reach(t, op, n, AT_READ)
            load_reached(t, w, HOST_RAX)
        else:
            emit_mov(e, w, HOST_RAX, held(t, op.d >> 3))
        known_target(t, op)
        if kind == T_CALL_TO:
            # Nothing is pushed before it is known that it will not be pushed again.
            emit_mov(e, 64, taken(t, VALUE), HOST_RAX)
            emit_rm(e, w, 0x8d, HOST_RAX, held(t, REG_RSP), HOST_NONE, 0, -<int32_t>n)
            reach(t, op, n, AT_WRITE)
            push_next_ip(t, op, w)
            emit_mov(e, 64, HOST_RAX, taken(t, VALUE))
            jump_entry_into_rdx(t)
    write_back(t)
    if kind == T_JMP or kind == T_CALL:
        follow_to(t, op)
    elif kind == T_JMP_FAR or kind == T_CALL_FAR:
        enter_at(t, op, <uint64_t>op.imm)
    elif kind == T_END:
        enter_at(t, op, op.ip)
    else:
        enter_known(t, op)
