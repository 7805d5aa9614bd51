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
    HEADER_BYTES = 16           # in front of host code: the handler that it replaces (see own_handler). Also its alignment


# --- blocks that are entered often ------------------------------------------------------------------------------------
# Until a block is translated, its first Op has the handler `watched`. Its head Op keeps the handler that the first Op had,
# and counts down in `imm` the entries that are left until the block is translated.
cdef void watch_block(Cpu *cpu, Block *block) noexcept nogil:
    cdef Op *first = &block.head + 1
    if cpu.host_code == NULL or cpu.translate_after == TRANSLATE_NEVER:
        return
    block.head.fn = first.fn
    block.head.imm = cpu.translate_after
    first.fn = watched
    if cpu.translate_after == 0:
        translate_block(cpu, block)


cdef void watched(Cpu *cpu, Op *op) noexcept nogil:
    cdef Op *head = op - 1
    head.imm -= 1
    if head.imm <= 0:
        translate_block(cpu, block_of(op))
        go_on(cpu, op)
        return
    head.fn(cpu, op)


# --- traces -----------------------------------------------------------------------------------------------------------
cdef void translate_block(Cpu *cpu, Block *block) noexcept nogil:
    cdef Trace t
    cdef Op *op = &block.head + 1
    cdef Op *end = op + block.ops
    cdef const Template *template
    cdef uint64_t used = cpu.host_code_used
    cdef bint ended = False
    op.fn = block.head.fn
    while op != end and not ended:  # Ops behind a branch that ends the block are never run
        template = template_of(op.fn)
        if template == NULL:
            op += 1
            continue
        begin_trace(&t, cpu, op)
        while template != NULL and not ended:
            t.clock += 1
            if t.side_exit_count > SIDE_EXITS - MOST_SIDE_EXITS or not translate_operation(&t, op, template):
                break
            ended = ends_block(template.kind)
            op += 1
            template = template_of(op.fn) if op != end else NULL
        if op == t.first:
            op += 1
            continue
        if not ended:
            spill_all(&t)
            materialise_flags(&t)
            go_to(&t, op)
        install_trace(&t)
    cpu.blocks_translated += cpu.host_code_used != used


cdef void begin_trace(Trace *t, Cpu *cpu, Op *first) noexcept nogil:
    t.code = cpu.host_code + cpu.host_code_used + HEADER_BYTES
    t.e.at = t.code
    t.e.end = cpu.host_code + cpu.host_code_size
    t.e.full = 0
    t.cpu = cpu
    t.first = first
    t.first_handler = first.fn
    t.clock = 0
    t.has_tlb = False
    t.side_exit_count = 0
    t.state.pending.kind = PENDING_NONE
    clear_allocation(t)


cdef void install_trace(Trace *t) noexcept nogil:
    """The code becomes the handler of the first operation, unless the buffer was too small for it."""
    cdef Cpu *cpu = t.cpu
    emit_side_exits(t)
    if not t.e.full:
        (<OpFn *>t.code - 1)[0] = t.first_handler
        t.first.fn = <OpFn>t.code
        cpu.host_code_used = (<uint64_t>(t.e.at - cpu.host_code) + 15) & ~<uint64_t>15


# --- operations -------------------------------------------------------------------------------------------------------
cdef inline bint names_high_byte(Op *op, const Template *what) noexcept nogil:
    """Is an operand AH, CH, DH or BH? Such operations are left to the interpreter."""
    if what.width != 8:
        return False
    return (has_register_target(what.form) and is_high_byte(op.d)
            or has_two_operands(what.kind) and has_register_source(what.form) and is_high_byte(op.s))


cdef bint translate_operation(Trace *t, Op *op, const Template *what) noexcept nogil:
    """Emit the code of one operation; False, with nothing emitted, if it is left to the interpreter after all."""
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
    elif kind == T_JCC or kind == T_JCC_OTHER_PAGE:
        add_side_exit(t, emit_jump_if(&t.e, condition_of(t, what.which)),
                      SIDE_EXIT_SAME_PAGE if kind == T_JCC else SIDE_EXIT_OTHER_PAGE, op)
        if t.cpu.predictor != NULL:
            expect_not_taken(t, op)
    elif kind != T_NOP:
        branch_away(t, op, what)
    return True


cdef void probe_operand(Trace *t, Op *op, const Template *what, uint32_t width, int32_t right) noexcept nogil:
    linear_address(t, op, what.address)
    probe_tlb(t, op, width // 8, right)


cdef void move(Trace *t, Op *op, const Template *what) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, d = register_number(op.d), source = HOST_RCX
    if has_register_target(what.form):
        save_flag_operand(t, d)
    if has_register_source(what.form):
        source = use_register(t, register_number(op.s))
    if what.form == R_I and w >= 32:
        emit_mov_i(e, define_register(t, d), <uint64_t>op.imm if w == 64 else <uint32_t>op.imm)
    elif what.form == R_I:
        emit_mov_low_i(e, w, modify_register(t, d), <uint32_t>op.imm)
    elif what.form == M_R:
        probe_operand(t, op, what, w, AT_WRITE)
        store_probed(t, w, source)
    elif what.form == M_I:
        probe_operand(t, op, what, w, AT_WRITE)
        emit_store_i(e, w, HOST_RAX, HOST_RCX, 0, <int32_t>op.imm)
    elif what.form == R_M and w >= 32:
        probe_operand(t, op, what, w, AT_READ)
        load_probed(t, w, define_register(t, d))
    else:
        if what.form == R_M:
            probe_operand(t, op, what, w, AT_READ)
            load_probed(t, w, source)
        emit_mov(e, w, define_register(t, d) if w >= 32 else modify_register(t, d), source)


cdef void extend(Trace *t, Op *op, const Template *what) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef uint32_t d = register_number(op.d), narrow = what.source_width, source = HOST_RCX, target
    save_flag_operand(t, d)
    if what.form == R_M:
        probe_operand(t, op, what, narrow, AT_READ)
        load_probed(t, narrow, source)
    elif narrow == 8 and is_high_byte(op.s):  # AH, CH, DH, BH
        emit_mov(e, 32, source, use_register(t, register_number(op.s)))
        emit_shift_i(e, 32, SHIFT_SHR, source, 8)
    else:
        source = use_register(t, register_number(op.s))
    if what.width == 16:
        emit_extend(e, what.which, narrow, HOST_RCX, source)
        emit_mov(e, 16, modify_register(t, d), HOST_RCX)
        return
    target = define_register(t, d)
    emit_extend(e, what.which, narrow, target, source)
    if what.which and what.width == 32:
        emit_mov(e, 32, target, target)


cdef void rearrange(Trace *t, Op *op, const Template *what) noexcept nogil:
    """Operations that move bits and leave the flags alone."""
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, d = register_number(op.d), a, b
    if what.kind == T_LEA:
        save_flag_operand(t, d)
        offset_into(t, op, what.address, HOST_RAX)
        emit_mov(e, w, define_register(t, d), HOST_RAX)
    elif what.kind == T_XCHG:
        save_flag_operand(t, d)
        save_flag_operand(t, register_number(op.s))
        a = modify_register(t, d)
        b = modify_register(t, register_number(op.s))
        emit_mov(e, w, HOST_RAX, a)
        emit_mov(e, w, a, b)
        emit_mov(e, w, b, HOST_RAX)
    elif what.kind == T_BSWAP:
        save_flag_operand(t, d)
        emit_bswap(e, w, modify_register(t, d))
    elif what.kind == T_WIDEN:
        save_flag_operand(t, REG_RAX)
        a = modify_register(t, REG_RAX)
        emit_extend(e, True, w // 2, a, a)
        if w == 32:
            emit_mov(e, 32, a, a)
    else:
        save_flag_operand(t, REG_RDX)
        a = use_register(t, REG_RAX)
        b = define_register(t, REG_RDX)
        emit_mov(e, w, b, a)
        emit_shift_i(e, w, SHIFT_SAR, b, w - 1)


cdef void operate(Trace *t, Op *op, uint32_t width, uint32_t which, uint32_t target, uint32_t source) noexcept nogil:
    """A two-operand operation on host registers; where the source is HOST_NONE, with the immediate."""
    if source == HOST_NONE:
        emit_alu_i(&t.e, width, which, target, <int32_t>op.imm)
    else:
        emit_alu(&t.e, width, which, target, source)


cdef void arithmetic(Trace *t, Op *op, const Template *what) noexcept nogil:
    cdef uint32_t which = what.which
    cdef uint32_t kind = (PENDING_TEST if what.kind == T_TEST else PENDING_CMP if which == ALU_CMP
                          else PENDING_ADD if which == ALU_ADD else PENDING_SUB if which == ALU_SUB else PENDING_LOGIC)
    if what.kind == T_ALU and (which == ALU_ADC or which == ALU_SBB):
        add_with_carry(t, op, what)
    elif kind == PENDING_TEST or kind == PENDING_CMP:
        compare(t, op, what, kind)
    elif what.form == M_R or what.form == M_I:
        change_memory(t, op, what, kind)
    else:
        change_register(t, op, what, kind)


cdef void compare(Trace *t, Op *op, const Template *what, uint32_t kind) noexcept nogil:
    """CMP and TEST emit no operation: they only leave flags pending. An operand in memory is loaded into TEMP."""
    cdef uint32_t w = what.width, a = register_number(op.d), b = register_number(op.s)
    if what.form == R_I or what.form == M_I:
        b = IMMEDIATE
    if has_memory(what.form):
        if what.form == M_R:
            use_register(t, b)
        elif what.form == R_M:
            use_register(t, a)
        probe_operand(t, op, what, w, AT_READ)
        t.state.pending.kind = PENDING_NONE
        load_probed(t, w, define_register(t, TEMP))
        if what.form == R_M:
            b = TEMP
        else:
            a = TEMP
    defer_flags(t, kind, w, a, b, op.imm)


cdef void change_register(Trace *t, Op *op, const Template *what, uint32_t kind) noexcept nogil:
    cdef uint32_t w = what.width, d = register_number(op.d), target, source = HOST_NONE
    cdef uint32_t b = IMMEDIATE if what.form == R_I else register_number(op.s)
    if what.form == R_M:
        use_register(t, d)
        probe_operand(t, op, what, w, AT_READ)
    # From here on the flags are this instruction's: what was pending before is dead.
    t.state.pending.kind = PENDING_NONE
    target = modify_register(t, d)
    if what.form == R_M and what.quiet:
        source = HOST_RCX
        load_probed(t, w, source)
    elif what.form == R_M:
        b = TEMP
        source = define_register(t, TEMP)
        load_probed(t, w, source)
    elif what.form == R_R:
        source = use_register(t, b)
        if b == d and kind != PENDING_LOGIC and not what.quiet:
            b = TEMP
            source = define_register(t, TEMP)
            emit_mov(&t.e, 64, source, target)
    operate(t, op, w, what.which, target, source)
    if not what.quiet:
        defer_flags(t, kind, w, d, b, op.imm)


cdef void change_memory(Trace *t, Op *op, const Template *what, uint32_t kind) noexcept nogil:
    cdef uint32_t w = what.width, target
    cdef uint32_t source = use_register(t, register_number(op.s)) if what.form == M_R else HOST_NONE
    probe_operand(t, op, what, w, AT_WRITE)
    t.state.pending.kind = PENDING_NONE
    target = define_register(t, TEMP)
    load_probed(t, w, target)
    operate(t, op, w, what.which, target, source)
    store_probed(t, w, target)
    defer_flags(t, kind, w, TEMP, register_number(op.s) if what.form == M_R else IMMEDIATE, op.imm)


cdef void add_with_carry(Trace *t, Op *op, const Template *what) noexcept nogil:
    """ADC and SBB, whose flags are never pending: they are stored at once."""
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, target = HOST_NONE, source = HOST_NONE
    materialise_flags(t)
    if has_register_source(what.form):
        source = use_register(t, register_number(op.s))
    if has_register_target(what.form):
        target = modify_register(t, register_number(op.d))
    if has_memory(what.form):
        probe_operand(t, op, what, w, AT_READ if what.form == R_M else AT_WRITE)
        load_probed(t, w, define_register(t, TEMP))
        if what.form == R_M:
            source = define_register(t, TEMP)
        else:
            target = define_register(t, TEMP)
    emit_mov(e, 64, HOST_RDX, target)
    operate(t, op, 64, ALU_XOR, HOST_RDX, source)
    emit_carry_from(e, HOST_RDI, AT_FL_CF)
    operate(t, op, w, what.which, target, source)
    if what.form == M_R or what.form == M_I:
        store_probed(t, w, target)
    if not what.quiet:
        emit_set(e, CC_B, HOST_RCX)
        emit_alu(e, 64, ALU_XOR, HOST_RDX, target)
        store_flags(t, w, target, HOST_RDX, HOST_RCX)


cdef void one_operand(Trace *t, Op *op, const Template *what) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, d = register_number(op.d), target, kind = what.kind
    cdef bint counts = kind == T_INC or kind == T_DEC
    cdef uint32_t pending = PENDING_INC if kind == T_INC else PENDING_DEC if kind == T_DEC else PENDING_NEG
    # INC and DEC keep CF, so flags pending for it are materialised first. NOT keeps all flags: they stay pending.
    if counts and not what.quiet:
        materialise_flags(t)
    if what.form == M_R:
        probe_operand(t, op, what, w, AT_WRITE)
        d = TEMP
        if kind == T_NOT:
            target = HOST_RDX  # the flags that stay pending may need TEMP
        else:
            t.state.pending.kind = PENDING_NONE
            target = define_register(t, TEMP)
        load_probed(t, w, target)
    else:
        if kind == T_NOT or what.quiet:
            save_flag_operand(t, d)
        target = modify_register(t, d)
    if counts:
        emit_alu_i(e, w, ALU_ADD if kind == T_INC else ALU_SUB, target, 1)
    else:
        emit_unary(e, w, UNARY_NOT if kind == T_NOT else UNARY_NEG, target)
    if what.form == M_R:
        store_probed(t, w, target)
    if kind != T_NOT and not what.quiet:
        defer_flags(t, pending, w, d, IMMEDIATE, 0)


cdef bint shift(Trace *t, Op *op, const Template *what) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, d = register_number(op.d), count = shift_count(op, w), pending
    if count == 0 or count >= w:
        return False
    if what.which == SHIFT_ROL or what.which == SHIFT_ROR:
        save_flag_operand(t, d)  # they change CF and OF only: the other flags may be pending
    else:
        t.state.pending.kind = PENDING_NONE
    if not what.quiet:
        emit_mov(e, 64, define_register(t, TEMP), use_register(t, d))
        pending = PENDING_SHL if what.which == SHIFT_SHL else PENDING_SHR if what.which == SHIFT_SHR else PENDING_SAR
        defer_flags(t, pending, w, IMMEDIATE, IMMEDIATE, count)
    emit_shift_i(e, w, what.which, modify_register(t, d), count)
    return True


cdef void shift_by_cl(Trace *t, Op *op, const Template *what) noexcept nogil:
    """A count of 0 leaves the flags as they are (SDM vol. 2, SAL/SAR/SHL/SHR)."""
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, target
    cdef uint8_t *nothing
    materialise_flags(t)
    target = modify_register(t, register_number(op.d))
    emit_mov(e, 32, HOST_RCX, use_register(t, REG_RCX))
    if w == 32:
        emit_mov(e, 32, target, target)
    emit_alu_i(e, 32, ALU_AND, HOST_RCX, 63 if w == 64 else 31)
    nothing = emit_jump_if(e, CC_E)
    emit_shift_cl(e, w, what.which, target)
    store_shift_flags(t, what.which, w, target)
    emit_here(e, nothing)


cdef uint32_t factor(Trace *t, Op *op, const Template *what, uint8_t offset) noexcept nogil:
    """The factor that may be in memory, in a host register."""
    if what.form != R_M:
        return use_register(t, offset >> 3)
    probe_operand(t, op, what, what.width, AT_READ)
    load_probed(t, what.width, HOST_RCX)
    return HOST_RCX


cdef void multiply(Trace *t, Op *op, const Template *what) noexcept nogil:
    """IMUL with two and three operands."""
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, d = register_number(op.d), source = factor(t, op, what, op.s)
    t.state.pending.kind = PENDING_NONE
    if what.form == R_I:
        emit_imul_i(e, w, define_register(t, d), source, <int32_t>op.imm)
    else:
        emit_imul(e, w, modify_register(t, d), source)
    emit_set(e, CC_B, define_register(t, TEMP))
    defer_flags(t, PENDING_PRODUCT, w, d, IMMEDIATE, 0)


cdef void multiply_rax(Trace *t, Op *op, const Template *what) noexcept nogil:
    """MUL, and IMUL with one operand: the product is in rDX and rAX."""
    cdef Emitter *e = &t.e
    cdef uint32_t w = what.width, source = factor(t, op, what, op.d)
    t.state.pending.kind = PENDING_NONE
    emit_mov(e, w, HOST_RAX, use_register(t, REG_RAX))
    emit_unary(e, w, UNARY_IMUL if what.which else UNARY_MUL, source)
    emit_set(e, CC_B, define_register(t, TEMP))
    emit_mov(e, w, define_register(t, REG_RAX), HOST_RAX)
    emit_mov(e, w, define_register(t, REG_RDX), HOST_RDX)
    defer_flags(t, PENDING_PRODUCT, w, REG_RAX, IMMEDIATE, 0)


cdef void conditional(Trace *t, Op *op, const Template *what) noexcept nogil:
    """SETcc and CMOVcc."""
    cdef Emitter *e = &t.e
    cdef uint32_t d = register_number(op.d), target, source = HOST_RAX, code
    save_flag_operand(t, d)
    if what.form == R_M:
        free_temp(t)
        probe_operand(t, op, what, what.width, AT_READ)
        source = define_register(t, TEMP)
        load_probed(t, what.width, source)
    elif what.kind == T_CMOV:
        source = use_register(t, register_number(op.s))
    target = modify_register(t, d)
    code = condition_of(t, condition_code(op))
    if what.kind == T_CMOV:
        emit_cmov(e, what.width, code, target, source)
    else:
        emit_set(e, code, source)
        emit_mov(e, 8, target, source)


cdef void based_address(Trace *t, Op *op, const Template *what) noexcept nogil:
    """As ea_based32 and ea_based64 of auxiliary.pyx."""
    cdef Emitter *e = &t.e
    cdef int32_t segment = AT_SEGMENTS + <int32_t>(op.seg * sizeof(Segment))
    offset_into(t, op, what.address, HOST_RAX)
    emit_load(e, 64, HOST_RCX, HOST_RDI, segment + AT_BASE)
    if what.width == 32:
        emit_alu_mi(e, 32, ALU_CMP, HOST_RDI, segment + AT_LIMIT, -1)
        side_exit_if(t, CC_NE, op)
        emit_load(e, 32, HOST_RDX, HOST_RDI, segment + AT_ACCESS)
        emit_alu_i(e, 32, ALU_AND, HOST_RDX, AR_UNUSABLE | 0xe)
        emit_alu_i(e, 32, ALU_CMP, HOST_RDX, 2)
        side_exit_if(t, CC_NE, op)
        emit_alu(e, 32, ALU_ADD, HOST_RCX, HOST_RAX)
    else:
        emit_alu(e, 64, ALU_ADD, HOST_RCX, HOST_RAX)
        # The first byte, and the byte behind the last, as the address Op has it.
        side_exit_unless_canonical(t, op, HOST_RCX, 0, HOST_RDX)
        side_exit_unless_canonical(t, op, HOST_RCX, <int32_t>access_bytes(op), HOST_RDX)
    emit_store(e, 64, HOST_RAX, HOST_RDI, AT_EA_OFFSET)
    emit_store(e, 64, HOST_RCX, HOST_RDI, AT_EA)


cdef void probe_new_slot(Trace *t, Op *op, uint32_t width) noexcept nogil:
    """Probe the TLB for the slot that a push will write; RAX is the stack pointer after it."""
    emit_lea(&t.e, width, HOST_RAX, use_register(t, REG_RSP), HOST_NONE, 0, -<int32_t>(width // 8))
    probe_tlb(t, op, width // 8, AT_WRITE)


cdef void push(Trace *t, Op *op, const Template *what) noexcept nogil:
    cdef uint32_t w = what.width, source = HOST_NONE
    save_flag_operand(t, REG_RSP)
    if what.form == R_R:
        source = use_register(t, register_number(op.d))
    elif what.form == R_M:
        free_temp(t)
        probe_operand(t, op, what, w, AT_READ)
        source = define_register(t, TEMP)
        load_probed(t, w, source)
    probe_new_slot(t, op, w)
    if what.form == R_I:
        emit_store_i(&t.e, w, HOST_RAX, HOST_RCX, 0, <int32_t>op.imm)
    else:
        store_probed(t, w, source)
    emit_mov(&t.e, 64, modify_register(t, REG_RSP), HOST_RAX)


cdef bint pop(Trace *t, Op *op, const Template *what) noexcept nogil:
    """POP, and LEAVE, which pops rBP from where it points."""
    cdef uint32_t w = what.width, d = REG_RBP if what.kind == T_LEAVE else register_number(op.d)
    if d == REG_RSP:
        return False
    save_flag_operand(t, REG_RSP)
    save_flag_operand(t, d)
    emit_mov(&t.e, w, HOST_RAX, use_register(t, REG_RBP if what.kind == T_LEAVE else REG_RSP))
    probe_tlb(t, op, w // 8, AT_READ)
    load_probed(t, w, define_register(t, d))
    emit_lea(&t.e, w, define_register(t, REG_RSP), HOST_RAX, HOST_NONE, 0, <int32_t>(w // 8))
    return True


cdef void push_next_ip(Trace *t, Op *op, uint32_t w) noexcept nogil:
    """Push the address of the next instruction into the slot that was probed."""
    cdef uint64_t next = next_ip(op)
    if w == 64 and next != <uint64_t>(<int64_t><int32_t>next):
        emit_mov_i(&t.e, HOST_RDX, next)
        store_probed(t, 64, HOST_RDX)
    else:
        emit_store_i(&t.e, w, HOST_RAX, HOST_RCX, 0, <int32_t>next)
    emit_mov(&t.e, 64, modify_register(t, REG_RSP), HOST_RAX)


cdef void branch_away(Trace *t, Op *op, const Template *what) noexcept nogil:
    """Branches that end a block, and the end of a block without one."""
    cdef Emitter *e = &t.e
    cdef uint32_t kind = what.kind, w = what.width, n = w // 8
    materialise_flags(t)
    if kind == T_CALL or kind == T_CALL_OTHER_PAGE:
        probe_new_slot(t, op, w)
        push_next_ip(t, op, w)
    elif kind == T_RET:
        emit_mov(e, w, HOST_RAX, use_register(t, REG_RSP))
        probe_tlb(t, op, n, AT_READ)
        load_probed(t, w, HOST_RAX)
        probe_jump_cache(t, op)
        emit_lea(e, w, modify_register(t, REG_RSP), use_register(t, REG_RSP), HOST_NONE, 0, <int32_t>(n + op.imm))
    elif kind == T_JMP_TO or kind == T_CALL_TO:
        if what.form == R_M:
            probe_operand(t, op, what, w, AT_READ)
            load_probed(t, w, HOST_RAX)
        else:
            emit_mov(e, w, HOST_RAX, use_register(t, register_number(op.d)))
        probe_jump_cache(t, op)
        if kind == T_CALL_TO:
            # TEMP keeps the target during the second probe; flags have been materialised, so nothing else needs it.
            emit_mov(e, 64, define_register(t, TEMP), HOST_RAX)
            probe_new_slot(t, op, w)
            push_next_ip(t, op, w)
            if t.cpu.predictor != NULL:
                push_return(t, op)
            emit_mov(e, 64, HOST_RAX, define_register(t, TEMP))
            jump_entry_into_rdx(t)
    spill_all(t)
    if t.cpu.predictor != NULL and (kind == T_CALL or kind == T_CALL_OTHER_PAGE):
        push_return(t, op)
    if kind == T_JMP or kind == T_CALL:
        follow_to(t, op)
    elif kind == T_JMP_OTHER_PAGE or kind == T_CALL_OTHER_PAGE:
        enter_at(t, op, <uint64_t>op.imm)
    elif kind == T_END:
        enter_at(t, op, op.ip)
    else:
        enter_jump_cache_hit(t, op, kind == T_RET)
