# cython: language_level=3
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from hvmx.core.translate.side_exits cimport *
from hvmx.core.translate.flags cimport *
from hvmx.core.translate.memory cimport *
from hvmx.core.translate.registers cimport *
from hvmx.core.state.ops cimport *
from hvmx.core.state.state cimport *
from hvmx.core.translate.templates cimport *
from hvmx.core.translate.trace cimport *


cdef enum:
    HEADER_BYTES = 16           # before host code, which is aligned to as many: see own_handler


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
    cdef Stretch t
    cdef Op *op = &block.head + 1
    cdef Op *end = op + block.ops
    cdef const Template *template
    cdef uint64_t used = cpu.host_code_used
    cdef bint ended = False
    op.fn = block.head.fn
    while op != end and not ended:  # what follows the end is not reached
        template = template_of(op.fn)
        if template == NULL:
            op += 1
            continue
        begin(&t, cpu, op)
        while template != NULL and not ended:
            t.clock += 1
            if t.exit_count > EXITS - MOST_EXITS or not write_operation(&t, op, template):
                break
            ended = ends_block(template.kind)
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
    cpu.blocks_translated += cpu.host_code_used != used


cdef void begin(Stretch *t, Cpu *cpu, Op *first) noexcept nogil:
    t.code = cpu.host_code + cpu.host_code_used + HEADER_BYTES
    t.e.at = t.code
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


cdef void put_in_place(Stretch *t) noexcept nogil:
    """The code becomes the first operation's handler, if there was room for it."""
    cdef Cpu *cpu = t.cpu
    write_exits(t)
    if not t.e.full:
        (<OpFn *>t.code - 1)[0] = t.first_handler
        t.first.fn = <OpFn>t.code
        cpu.host_code_used = (<uint64_t>(t.e.at - cpu.host_code) + 15) & ~<uint64_t>15


# --- operations ---------------------------------------------------------------------------------------------------------
cdef inline bint names_high_byte(Op *op, const Template *what) noexcept nogil:
    """AH, CH, DH or BH, which stay with the interpreter."""
    if what.width != 8:
        return False
    return (has_register_target(what.form) and op.d & 7
            or has_two_operands(what.kind) and has_register_source(what.form) and op.s & 7)


cdef bint write_operation(Stretch *t, Op *op, const Template *what) noexcept nogil:
    """The code of one operation; False, with nothing written, if it is left to the interpreter after all."""
    cdef uint32_t kind = what.kind
    if names_high_byte(op, what):
        return False
    if kind == T_MOV:
        move(t, op, what)
    elif kind == T_EXTEND:
        extend(t, op, what)
    elif kind == T_ALU or kind == T_TEST:
        arithmetic(t, op, what)
    elif kind == T_INC or kind == T_DEC or kind == T_NEG or kind == T_NOT:
        one_operand(t, op, what)
    elif kind == T_SHIFT:
        return shift(t, op, what)
    elif kind == T_SHIFT_CL:
        shift_by_cl(t, op, what)
    elif kind == T_IMUL:
        multiply(t, op, what)
    elif kind == T_MUL:
        multiply_rax(t, op, what)
    elif kind == T_LEA or kind == T_XCHG or kind == T_BSWAP or kind == T_WIDEN or kind == T_WIDEN_TWO:
        rearrange(t, op, what)
    elif kind == T_SETCC or kind == T_CMOV:
        conditional(t, op, what)
    elif kind == T_PUSH:
        push(t, op, what)
    elif kind == T_POP or kind == T_LEAVE:
        return pop(t, op, what)
    elif kind == T_EA:
        offset_into(t, op, what.address, HOST_RAX)
        emit_store(&t.e, 64, HOST_RAX, HOST_RDI, AT_EA_OFFSET)
        emit_store(&t.e, 64, HOST_RAX, HOST_RDI, AT_EA)
    elif kind == T_EA_BASED:
        based_address(t, op, what)
    elif kind == T_JCC or kind == T_JCC_FAR:
        leave_by(t, emit_jump_if(&t.e, condition_of(t, what.which)), EXIT_FOLLOW if kind == T_JCC else EXIT_FOLLOW_FAR, op)
    elif kind != T_NOP:
        branch_away(t, op, what)
    return True


cdef void reach_operand(Stretch *t, Op *op, const Template *what, uint32_t width, int32_t right) noexcept nogil:
    linear_address(t, op, what.address)
    reach(t, op, width // 8, right)


cdef void move(Stretch *t, Op *op, const Template *what) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, d = op.d >> 3, source = HOST_RCX
    if has_register_target(what.form):
        release(t, d)
    if has_register_source(what.form):
        source = held(t, op.s >> 3)
    if what.form == R_I and w >= 32:
        emit_mov_i(e, taken(t, d), <uint64_t>op.imm if w == 64 else <uint32_t>op.imm)
    elif what.form == R_I:
        emit_mov_low_i(e, w, changed(t, d), <uint32_t>op.imm)
    elif what.form == M_R:
        reach_operand(t, op, what, w, AT_WRITE)
        store_reached(t, w, source)
    elif what.form == M_I:
        reach_operand(t, op, what, w, AT_WRITE)
        emit_store_i(e, w, HOST_RAX, HOST_RCX, 0, <int32_t>op.imm)
    elif what.form == R_M and w >= 32:
        reach_operand(t, op, what, w, AT_READ)
        load_reached(t, w, taken(t, d))
    else:
        if what.form == R_M:
            reach_operand(t, op, what, w, AT_READ)
            load_reached(t, w, source)
        emit_mov(e, w, taken(t, d) if w >= 32 else changed(t, d), source)


cdef void extend(Stretch *t, Op *op, const Template *what) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef uint32_t d = op.d >> 3, narrow = what.source_width, source = HOST_RCX, target
    release(t, d)
    if what.form == R_M:
        reach_operand(t, op, what, narrow, AT_READ)
        load_reached(t, narrow, source)
    elif narrow == 8 and op.s & 7:  # AH, CH, DH, BH
        emit_mov(e, 32, source, held(t, op.s >> 3))
        emit_shift_i(e, 32, SHIFT_SHR, source, 8)
    else:
        source = held(t, op.s >> 3)
    if what.width == 16:
        emit_extend(e, what.which, narrow, HOST_RCX, source)
        emit_mov(e, 16, changed(t, d), HOST_RCX)
        return
    target = taken(t, d)
    emit_extend(e, what.which, narrow, target, source)
    if what.which and what.width == 32:
        emit_mov(e, 32, target, target)


cdef void rearrange(Stretch *t, Op *op, const Template *what) noexcept nogil:
    """What moves bits about and leaves the flags."""
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
        emit_bswap(e, w, changed(t, d))
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


cdef void operate(Stretch *t, Op *op, uint32_t width, uint32_t which, uint32_t target, uint32_t source) noexcept nogil:
    """A two-operand operation of registers of the host; HOST_NONE as the source is the immediate."""
    if source == HOST_NONE:
        emit_alu_i(&t.e, width, which, target, <int32_t>op.imm)
    else:
        emit_alu(&t.e, width, which, target, source)


cdef void arithmetic(Stretch *t, Op *op, const Template *what) noexcept nogil:
    cdef uint32_t which = what.which
    cdef uint32_t kind = (OWED_TEST if what.kind == T_TEST else OWED_CMP if which == ALU_CMP else OWED_ADD if which == ALU_ADD
                          else OWED_SUB if which == ALU_SUB else OWED_LOGIC)
    if what.kind == T_ALU and (which == ALU_ADC or which == ALU_SBB):
        add_with_carry(t, op, what)
    elif kind == OWED_TEST or kind == OWED_CMP:
        compare(t, op, what, kind)
    elif what.form == M_R or what.form == M_I:
        change_memory(t, op, what, kind)
    else:
        change_register(t, op, what, kind)


cdef void compare(Stretch *t, Op *op, const Template *what, uint32_t kind) noexcept nogil:
    """CMP and TEST are nothing but what they owe. An operand in memory becomes VALUE."""
    cdef uint32_t w = what.width, a = op.d >> 3, b = op.s >> 3
    if what.form == R_I or what.form == M_I:
        b = IMMEDIATE
    if has_memory(what.form):
        if what.form == M_R:
            held(t, b)
        elif what.form == R_M:
            held(t, a)
        reach_operand(t, op, what, w, AT_READ)
        t.now.owed.kind = OWED_NOTHING
        load_reached(t, w, taken(t, VALUE))
        if what.form == R_M:
            b = VALUE
        else:
            a = VALUE
    owe(t, kind, w, a, b, op.imm)


cdef void change_register(Stretch *t, Op *op, const Template *what, uint32_t kind) noexcept nogil:
    cdef uint32_t w = what.width, d = op.d >> 3, b = IMMEDIATE if what.form == R_I else op.s >> 3, target, source = HOST_NONE
    if what.form == R_M:
        held(t, d)
        reach_operand(t, op, what, w, AT_READ)
    # From here on the flags are this instruction's, whatever was owed before.
    t.now.owed.kind = OWED_NOTHING
    target = changed(t, d)
    if what.form == R_M and what.quiet:
        source = HOST_RCX
        load_reached(t, w, source)
    elif what.form == R_M:
        b = VALUE
        source = taken(t, VALUE)
        load_reached(t, w, source)
    elif what.form == R_R:
        source = held(t, b)
        if b == d and kind != OWED_LOGIC and not what.quiet:
            b = VALUE
            source = taken(t, VALUE)
            emit_mov(&t.e, 64, source, target)
    operate(t, op, w, what.which, target, source)
    if not what.quiet:
        owe(t, kind, w, d, b, op.imm)


cdef void change_memory(Stretch *t, Op *op, const Template *what, uint32_t kind) noexcept nogil:
    cdef uint32_t w = what.width, target, source = held(t, op.s >> 3) if what.form == M_R else HOST_NONE
    reach_operand(t, op, what, w, AT_WRITE)
    t.now.owed.kind = OWED_NOTHING
    target = taken(t, VALUE)
    load_reached(t, w, target)
    operate(t, op, w, what.which, target, source)
    store_reached(t, w, target)
    owe(t, kind, w, VALUE, op.s >> 3 if what.form == M_R else IMMEDIATE, op.imm)


cdef void add_with_carry(Stretch *t, Op *op, const Template *what) noexcept nogil:
    """ADC and SBB, whose flags are stored at once."""
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, target = HOST_NONE, source = HOST_NONE
    settle(t)
    if has_register_source(what.form):
        source = held(t, op.s >> 3)
    if has_register_target(what.form):
        target = changed(t, op.d >> 3)
    if has_memory(what.form):
        reach_operand(t, op, what, w, AT_READ if what.form == R_M else AT_WRITE)
        load_reached(t, w, taken(t, VALUE))
        if what.form == R_M:
            source = taken(t, VALUE)
        else:
            target = taken(t, VALUE)
    emit_mov(e, 64, HOST_RDX, target)
    operate(t, op, 64, ALU_XOR, HOST_RDX, source)
    emit_carry_from(e, HOST_RDI, AT_FL_CF)
    operate(t, op, w, what.which, target, source)
    if what.form == M_R or what.form == M_I:
        store_reached(t, w, target)
    if not what.quiet:
        emit_set(e, CC_B, HOST_RCX)
        emit_alu(e, 64, ALU_XOR, HOST_RDX, target)
        store_flags(t, w, target, HOST_RDX, HOST_RCX)


cdef void one_operand(Stretch *t, Op *op, const Template *what) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, d = op.d >> 3, target, kind = what.kind
    cdef bint counts = kind == T_INC or kind == T_DEC
    cdef uint32_t owed = OWED_INC if kind == T_INC else OWED_DEC if kind == T_DEC else OWED_NEG
    # INC and DEC leave CF, NOT all flags: what is owed of these still is.
    if counts and not what.quiet:
        settle(t)
    if what.form == M_R:
        reach_operand(t, op, what, w, AT_WRITE)
        d = VALUE
        if kind == T_NOT:
            target = HOST_RDX  # VALUE may be taken
        else:
            t.now.owed.kind = OWED_NOTHING
            target = taken(t, VALUE)
        load_reached(t, w, target)
    else:
        if kind == T_NOT or what.quiet:
            release(t, d)
        target = changed(t, d)
    if counts:
        emit_alu_i(e, w, ALU_ADD if kind == T_INC else ALU_SUB, target, 1)
    else:
        emit_unary(e, w, UNARY_NOT if kind == T_NOT else UNARY_NEG, target)
    if what.form == M_R:
        store_reached(t, w, target)
    if kind != T_NOT and not what.quiet:
        owe(t, owed, w, d, IMMEDIATE, 0)


cdef bint shift(Stretch *t, Op *op, const Template *what) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, d = op.d >> 3, count = <uint32_t>op.imm & (63 if w == 64 else 31)
    if count == 0 or count >= w:
        return False
    if what.which == SHIFT_ROL or what.which == SHIFT_ROR:
        release(t, d)  # flags other than CF and OF may still be owed
    else:
        t.now.owed.kind = OWED_NOTHING
    if not what.quiet:
        emit_mov(e, 64, taken(t, VALUE), held(t, d))
        owe(t, OWED_SHL if what.which == SHIFT_SHL else OWED_SHR if what.which == SHIFT_SHR else OWED_SAR, w,
            IMMEDIATE, IMMEDIATE, count)
    emit_shift_i(e, w, what.which, changed(t, d), count)
    return True


cdef void shift_by_cl(Stretch *t, Op *op, const Template *what) noexcept nogil:
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
    emit_shift_cl(e, w, what.which, target)
    flags_of_shift(t, what.which, w, target)
    emit_here(e, nothing)


cdef uint32_t factor(Stretch *t, Op *op, const Template *what, uint8_t offset) noexcept nogil:
    """The operand of a multiplication that may be in memory, in a register of the host."""
    if what.form != R_M:
        return held(t, offset >> 3)
    reach_operand(t, op, what, what.width, AT_READ)
    load_reached(t, what.width, HOST_RCX)
    return HOST_RCX


cdef void multiply(Stretch *t, Op *op, const Template *what) noexcept nogil:
    """IMUL with two and three operands."""
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, d = op.d >> 3, source = factor(t, op, what, op.s)
    t.now.owed.kind = OWED_NOTHING
    if what.form == R_I:
        emit_imul_i(e, w, taken(t, d), source, <int32_t>op.imm)
    else:
        emit_imul(e, w, changed(t, d), source)
    emit_set(e, CC_B, taken(t, VALUE))
    owe(t, OWED_PRODUCT, w, d, IMMEDIATE, 0)


cdef void multiply_rax(Stretch *t, Op *op, const Template *what) noexcept nogil:
    """MUL, and IMUL with one operand: the product is in rDX and rAX."""
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, source = factor(t, op, what, op.d)
    t.now.owed.kind = OWED_NOTHING
    emit_mov(e, w, HOST_RAX, held(t, REG_RAX))
    emit_unary(e, w, UNARY_IMUL if what.which else UNARY_MUL, source)
    emit_set(e, CC_B, taken(t, VALUE))
    emit_mov(e, w, taken(t, REG_RAX), HOST_RAX)
    emit_mov(e, w, taken(t, REG_RDX), HOST_RDX)
    owe(t, OWED_PRODUCT, w, REG_RAX, IMMEDIATE, 0)


cdef void conditional(Stretch *t, Op *op, const Template *what) noexcept nogil:
    """SETcc and CMOVcc."""
    cdef Emitter *e = &t.e
    cdef uint32_t d = op.d >> 3, target, source = HOST_RAX, code
    release(t, d)
    if what.form == R_M:
        free_value(t)
        reach_operand(t, op, what, what.width, AT_READ)
        source = taken(t, VALUE)
        load_reached(t, what.width, source)
    elif what.kind == T_CMOV:
        source = held(t, op.s >> 3)
    target = changed(t, d)
    code = condition_of(t, op.x)
    if what.kind == T_CMOV:
        emit_cmov(e, what.width, code, target, source)
    else:
        emit_set(e, code, source)
        emit_mov(e, 8, target, source)


cdef void based_address(Stretch *t, Op *op, const Template *what) noexcept nogil:
    """As ea_based32 and ea_based64 of auxiliary.pyx."""
    cdef Emitter *e = &t.e
    cdef int32_t segment = AT_SEGMENTS + <int32_t>(op.seg * sizeof(Segment))
    offset_into(t, op, what.address, HOST_RAX)
    emit_load(e, 64, HOST_RCX, HOST_RDI, segment + AT_BASE)
    if what.width == 32:
        emit_alu_mi(e, 32, ALU_CMP, HOST_RDI, segment + AT_LIMIT, -1)
        alone_if(t, CC_NE, op)
        emit_load(e, 32, HOST_RDX, HOST_RDI, segment + AT_ACCESS)
        emit_alu_i(e, 32, ALU_AND, HOST_RDX, AR_UNUSABLE | 0xe)
        emit_alu_i(e, 32, ALU_CMP, HOST_RDX, 2)
        alone_if(t, CC_NE, op)
        emit_alu(e, 32, ALU_ADD, HOST_RCX, HOST_RAX)
    else:
        emit_alu(e, 64, ALU_ADD, HOST_RCX, HOST_RAX)
        # From the first byte to behind the last.
        canonical_or_alone(t, op, HOST_RCX, 0, HOST_RDX)
        canonical_or_alone(t, op, HOST_RCX, <int32_t>(op.imm & 0xff), HOST_RDX)
    emit_store(e, 64, HOST_RAX, HOST_RDI, AT_EA_OFFSET)
    emit_store(e, 64, HOST_RCX, HOST_RDI, AT_EA)


cdef void reach_new_slot(Stretch *t, Op *op, uint32_t width) noexcept nogil:
    """Where a push will write; RAX is what the stack pointer then is."""
    emit_lea(&t.e, width, HOST_RAX, held(t, REG_RSP), HOST_NONE, 0, -<int32_t>(width // 8))
    reach(t, op, width // 8, AT_WRITE)


cdef void push(Stretch *t, Op *op, const Template *what) noexcept nogil:
    cdef uint32_t w = what.width, source = HOST_NONE
    release(t, REG_RSP)
    if what.form == R_R:
        source = held(t, op.d >> 3)
    elif what.form == R_M:
        free_value(t)
        reach_operand(t, op, what, w, AT_READ)
        source = taken(t, VALUE)
        load_reached(t, w, source)
    reach_new_slot(t, op, w)
    if what.form == R_I:
        emit_store_i(&t.e, w, HOST_RAX, HOST_RCX, 0, <int32_t>op.imm)
    else:
        store_reached(t, w, source)
    emit_mov(&t.e, 64, changed(t, REG_RSP), HOST_RAX)


cdef bint pop(Stretch *t, Op *op, const Template *what) noexcept nogil:
    """POP, and LEAVE, which pops rBP from where it points."""
    cdef uint32_t w = what.width, d = REG_RBP if what.kind == T_LEAVE else op.d >> 3
    if d == REG_RSP:
        return False
    release(t, REG_RSP)
    release(t, d)
    emit_mov(&t.e, w, HOST_RAX, held(t, REG_RBP if what.kind == T_LEAVE else REG_RSP))
    reach(t, op, w // 8, AT_READ)
    load_reached(t, w, taken(t, d))
    emit_lea(&t.e, w, taken(t, REG_RSP), HOST_RAX, HOST_NONE, 0, <int32_t>(w // 8))
    return True


cdef void push_next_ip(Stretch *t, Op *op, uint32_t w) noexcept nogil:
    """Into the slot that was reached."""
    cdef uint64_t next = next_ip(op)
    if w == 64 and next != <uint64_t>(<int64_t><int32_t>next):
        emit_mov_i(&t.e, HOST_RDX, next)
        store_reached(t, 64, HOST_RDX)
    else:
        emit_store_i(&t.e, w, HOST_RAX, HOST_RCX, 0, <int32_t>next)
    emit_mov(&t.e, 64, changed(t, REG_RSP), HOST_RAX)


cdef void branch_away(Stretch *t, Op *op, const Template *what) noexcept nogil:
    """What ends a block."""
    cdef Emitter *e = &t.e
    cdef uint32_t kind = what.kind, w = what.width, n = w // 8
    settle(t)
    if kind == T_CALL or kind == T_CALL_FAR:
        reach_new_slot(t, op, w)
        push_next_ip(t, op, w)
    elif kind == T_RET:
        emit_mov(e, w, HOST_RAX, held(t, REG_RSP))
        reach(t, op, n, AT_READ)
        load_reached(t, w, HOST_RAX)
        known_target(t, op)
        emit_lea(e, w, changed(t, REG_RSP), held(t, REG_RSP), HOST_NONE, 0, <int32_t>(n + op.imm))
    elif kind == T_JMP_TO or kind == T_CALL_TO:
        if what.form == R_M:
            reach_operand(t, op, what, w, AT_READ)
            load_reached(t, w, HOST_RAX)
        else:
            emit_mov(e, w, HOST_RAX, held(t, op.d >> 3))
        known_target(t, op)
        if kind == T_CALL_TO:
            # Only now is it known that the operation will not run alone after all.
            emit_mov(e, 64, taken(t, VALUE), HOST_RAX)
            reach_new_slot(t, op, w)
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
