# cython: language_level=3
from libc.stdint cimport int32_t, int64_t, uint32_t

from hvmx.core.translate.registers cimport define_register
from hvmx.core.translate.trace cimport *


cdef uint32_t value_of(Trace *t, uint32_t guest, uint32_t scratch) noexcept nogil:
    """A host register with the value of a guest register: `scratch` if none is allocated to it."""
    if t.state.host_of[guest] != HOST_NONE:
        return t.state.host_of[guest]
    emit_load(&t.e, 64, scratch, HOST_RDI, at_register(guest))
    return scratch


cdef void with_b(Trace *t, uint32_t width, uint32_t operation, uint32_t to) noexcept nogil:
    """An operation with the second operand of the pending flags, which is loaded into RDX if it is only in Cpu."""
    if t.state.pending.b == IMMEDIATE:
        emit_alu_i(&t.e, width, operation, to, <int32_t>t.state.pending.immediate)
    else:
        emit_alu(&t.e, width, operation, to, value_of(t, t.state.pending.b, HOST_RDX))


cdef void value_into(Trace *t, uint32_t guest, uint32_t host) noexcept nogil:
    cdef uint32_t found = value_of(t, guest, host)
    if found != host:
        emit_mov(&t.e, 64, host, found)


cdef void store_word(Trace *t, uint32_t host, int32_t at) noexcept nogil:
    emit_store(&t.e, 64, host, HOST_RDI, at)


cdef void defer_flags(Trace *t, uint32_t kind, uint32_t width, uint32_t a, uint32_t b,
                      int64_t immediate) noexcept nogil:
    t.state.pending.kind = <uint8_t>kind
    t.state.pending.width = <uint8_t>width
    t.state.pending.a = <uint8_t>a
    t.state.pending.b = <uint8_t>b
    t.state.pending.immediate = immediate


cdef void store_flags(Trace *t, uint32_t width, uint32_t result, uint32_t aux, uint32_t carry) noexcept nogil:
    store_word(t, carry, AT_FL_CF)
    emit_extend(&t.e, True, width, aux, aux)
    store_word(t, aux, AT_FL_AUX)
    emit_extend(&t.e, True, width, HOST_RAX, result)
    store_word(t, HOST_RAX, AT_FL_RES)


cdef void materialise_difference(Trace *t, uint32_t operation) noexcept nogil:
    """RAX has the first operand of an addition or subtraction, which is repeated for its flags."""
    cdef Emitter *e = &t.e
    emit_mov(e, 64, HOST_RCX, HOST_RAX)
    with_b(t, 64, ALU_XOR, HOST_RCX)
    with_b(t, t.state.pending.width, operation, HOST_RAX)
    emit_set(e, CC_B, HOST_RDX)
    emit_alu(e, 64, ALU_XOR, HOST_RCX, HOST_RAX)
    store_flags(t, t.state.pending.width, HOST_RAX, HOST_RCX, HOST_RDX)


cdef void materialise_logic(Trace *t, uint32_t host) noexcept nogil:
    emit_extend(&t.e, True, t.state.pending.width, HOST_RAX, host)
    store_word(t, HOST_RAX, AT_FL_RES)
    emit_store_i(&t.e, 64, HOST_RDI, HOST_NONE, AT_FL_AUX, 0)
    emit_store_i(&t.e, 64, HOST_RDI, HOST_NONE, AT_FL_CF, 0)


cdef void materialise_count(Trace *t) noexcept nogil:
    """INC and DEC: as ADD and SUB of 1, but for CF; OF is stored relative to it."""
    cdef Emitter *e = &t.e
    cdef uint32_t width = t.state.pending.width
    cdef uint32_t result = value_of(t, t.state.pending.a, HOST_RAX)
    emit_mov(e, 64, HOST_RCX, result)
    if t.state.pending.kind == PENDING_INC:
        emit_alu_i(e, 64, ALU_SUB, HOST_RCX, 1)
        emit_test(e, width, result, result)
    else:
        emit_alu_i(e, 64, ALU_ADD, HOST_RCX, 1)
        emit_test(e, width, HOST_RCX, HOST_RCX)
    emit_set(e, CC_E, HOST_RDX)
    emit_alu(e, 64, ALU_XOR, HOST_RCX, result)
    emit_alu_i(e, 64, ALU_XOR, HOST_RCX, 1)
    emit_extend(e, True, width, HOST_RCX, HOST_RCX)
    emit_extend(e, True, width, HOST_RAX, result)
    store_word(t, HOST_RAX, AT_FL_RES)
    emit_load(e, 64, HOST_RAX, HOST_RDI, AT_FL_CF)
    emit_alu_i(e, 32, ALU_AND, HOST_RAX, 1)
    store_word(t, HOST_RAX, AT_FL_CF)
    emit_alu(e, 32, ALU_XOR, HOST_RAX, HOST_RDX)
    emit_shift_i(e, 64, SHIFT_SHL, HOST_RAX, 63)
    emit_alu(e, 64, ALU_XOR, HOST_RCX, HOST_RAX)
    store_word(t, HOST_RCX, AT_FL_AUX)


cdef inline uint32_t shift_of(uint32_t kind) noexcept nogil:
    return SHIFT_SHL if kind == PENDING_SHL else SHIFT_SHR if kind == PENDING_SHR else SHIFT_SAR


cdef void shift_again(Trace *t) noexcept nogil:
    """Repeat the shift: the result is in RAX, and the host's flags are the guest's but for OF and AF."""
    cdef PendingFlags *pending = &t.state.pending
    emit_mov(&t.e, 64, HOST_RAX, t.state.host_of[TEMP])
    emit_shift_i(&t.e, pending.width, shift_of(pending.kind), HOST_RAX, <uint32_t>pending.immediate)


cdef void store_shift_flags(Trace *t, uint32_t which, uint32_t width, uint32_t result) noexcept nogil:
    cdef Emitter *e = &t.e
    emit_set(e, CC_B, HOST_RCX)
    store_word(t, HOST_RCX, AT_FL_CF)
    if which == SHIFT_SHR:
        # OF is the xor of the upper two bits of the result.
        emit_lea(e, 64, HOST_RDX, result, result, 0, 0)
        emit_alu(e, 64, ALU_XOR, HOST_RDX, result)
        emit_shift_i(e, width, SHIFT_SHR, HOST_RDX, width - 1)
        emit_alu_i(e, 32, ALU_AND, HOST_RDX, 1)
        emit_alu(e, 32, ALU_XOR, HOST_RCX, HOST_RDX)
    emit_extend(e, True, width, HOST_RAX, result)
    store_word(t, HOST_RAX, AT_FL_RES)
    if which == SHIFT_SHL:
        emit_mov(e, 64, HOST_RCX, HOST_RAX)  # OF is CF xor the sign
        emit_shift_i(e, 64, SHIFT_SHR, HOST_RCX, 63)
    emit_shift_i(e, 64, SHIFT_SHL, HOST_RCX, 63)
    store_word(t, HOST_RCX, AT_FL_AUX)


cdef void recover_operand(Trace *t) noexcept nogil:
    """Recover into RAX the operand that the result of ADD, SUB, INC, DEC or NEG has overwritten."""
    cdef uint32_t kind = t.state.pending.kind
    value_into(t, t.state.pending.a, HOST_RAX)
    if kind == PENDING_ADD:
        with_b(t, 64, ALU_SUB, HOST_RAX)
    elif kind == PENDING_SUB:
        with_b(t, 64, ALU_ADD, HOST_RAX)
    elif kind == PENDING_INC:
        emit_alu_i(&t.e, 64, ALU_SUB, HOST_RAX, 1)
    elif kind == PENDING_DEC:
        emit_alu_i(&t.e, 64, ALU_ADD, HOST_RAX, 1)
    else:
        emit_unary(&t.e, 64, UNARY_NEG, HOST_RAX)


cdef void materialise_flags(Trace *t) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef PendingFlags *pending = &t.state.pending
    if pending.kind == PENDING_CMP:
        value_into(t, pending.a, HOST_RAX)
        materialise_difference(t, ALU_SUB)
    elif pending.kind == PENDING_ADD or pending.kind == PENDING_SUB:
        recover_operand(t)
        materialise_difference(t, ALU_ADD if pending.kind == PENDING_ADD else ALU_SUB)
    elif pending.kind == PENDING_NEG:
        recover_operand(t)
        emit_mov(e, 64, HOST_RCX, HOST_RAX)
        emit_unary(e, pending.width, UNARY_NEG, HOST_RAX)
        emit_set(e, CC_B, HOST_RDX)
        emit_alu(e, 64, ALU_XOR, HOST_RCX, HOST_RAX)
        store_flags(t, pending.width, HOST_RAX, HOST_RCX, HOST_RDX)
    elif pending.kind == PENDING_TEST:
        value_into(t, pending.a, HOST_RAX)
        with_b(t, 64, ALU_AND, HOST_RAX)
        materialise_logic(t, HOST_RAX)
    elif pending.kind == PENDING_LOGIC:
        materialise_logic(t, value_of(t, pending.a, HOST_RAX))
    elif pending.kind == PENDING_INC or pending.kind == PENDING_DEC:
        materialise_count(t)
    elif pending.kind == PENDING_PRODUCT:
        store_word(t, t.state.host_of[TEMP], AT_FL_CF)
        emit_extend(e, True, pending.width, HOST_RAX, value_of(t, pending.a, HOST_RAX))
        store_word(t, HOST_RAX, AT_FL_RES)
        emit_store_i(e, 64, HOST_RDI, HOST_NONE, AT_FL_AUX, 0)
    elif pending.kind != PENDING_NONE:
        shift_again(t)
        store_shift_flags(t, shift_of(pending.kind), pending.width, HOST_RAX)
    pending.kind = PENDING_NONE


cdef void save_flag_operand(Trace *t, uint32_t guest) noexcept nogil:
    cdef PendingFlags *pending = &t.state.pending
    cdef uint32_t host
    cdef bint by_temp_alone = PENDING_SHL <= pending.kind <= PENDING_SAR
    if pending.kind == PENDING_NONE or by_temp_alone or pending.a != guest and pending.b != guest:
        return
    if needs_temp(t) or t.state.host_of[guest] == HOST_NONE:
        materialise_flags(t)
        return
    host = t.state.host_of[guest]
    t.used[host] = t.clock
    emit_mov(&t.e, 64, define_register(t, TEMP), host)
    if pending.a == guest:
        pending.a = TEMP
    if pending.b == guest:
        pending.b = TEMP


cdef void free_temp(Trace *t) noexcept nogil:
    if needs_temp(t):
        materialise_flags(t)


cdef uint32_t from_lazy_flags(Trace *t, uint32_t code) noexcept nogil:
    """A condition on Cpu's lazy flags (see condition() in ops.pxd)."""
    cdef Emitter *e = &t.e
    cdef uint32_t kind = code & ~<uint32_t>1
    if kind == CC_E:
        emit_alu_mi(e, 64, ALU_CMP, HOST_RDI, AT_FL_RES, 0)
        return code
    if kind == CC_B or kind == CC_BE:
        emit_load(e, 32, HOST_RAX, HOST_RDI, AT_FL_CF)
    elif kind == CC_O:
        emit_load(e, 64, HOST_RAX, HOST_RDI, AT_FL_AUX)
        emit_shift_i(e, 64, SHIFT_SHR, HOST_RAX, 63)
        emit_alu_m(e, 32, ALU_XOR, HOST_RAX, HOST_RDI, AT_FL_CF)
    elif kind == CC_S:
        emit_load(e, 64, HOST_RAX, HOST_RDI, AT_FL_RES)
        emit_shift_i(e, 64, SHIFT_SHR, HOST_RAX, 63)
        emit_load(e, 32, HOST_RCX, HOST_RDI, AT_FL_CF)
        emit_shift_i(e, 32, SHIFT_SHR, HOST_RCX, 16)
        emit_alu(e, 32, ALU_XOR, HOST_RAX, HOST_RCX)
    elif kind == CC_P:
        emit_load(e, 64, HOST_RAX, HOST_RDI, AT_FL_RES)
        emit_test(e, 8, HOST_RAX, HOST_RAX)
        emit_set(e, CC_P, HOST_RAX)
        emit_load(e, 32, HOST_RCX, HOST_RDI, AT_FL_CF)
        emit_shift_i(e, 32, SHIFT_SHR, HOST_RCX, 8)
        emit_alu(e, 32, ALU_XOR, HOST_RAX, HOST_RCX)
    else:
        # SF xor OF: the tops of fl_res and fl_aux, and of fl_cf the flip of SF (bit 16) and CF.
        emit_load(e, 64, HOST_RAX, HOST_RDI, AT_FL_RES)
        emit_alu_m(e, 64, ALU_XOR, HOST_RAX, HOST_RDI, AT_FL_AUX)
        emit_shift_i(e, 64, SHIFT_SHR, HOST_RAX, 63)
        emit_load(e, 32, HOST_RCX, HOST_RDI, AT_FL_CF)
        emit_alu(e, 32, ALU_XOR, HOST_RAX, HOST_RCX)
        emit_shift_i(e, 32, SHIFT_SHR, HOST_RCX, 16)
        emit_alu(e, 32, ALU_XOR, HOST_RAX, HOST_RCX)
    if kind == CC_BE or kind == CC_LE:
        emit_alu_mi(e, 64, ALU_CMP, HOST_RDI, AT_FL_RES, 0)
        emit_set(e, CC_E, HOST_RCX)
        emit_alu(e, 32, ALU_OR, HOST_RAX, HOST_RCX)
    emit_test_i(e, 8, HOST_RAX, 1)
    return CC_NE ^ (code & 1)


cdef uint32_t condition_of(Trace *t, uint32_t code) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef PendingFlags *pending = &t.state.pending
    cdef uint32_t kind = pending.kind, host
    cdef uint32_t flag = code & ~<uint32_t>1
    cdef bint by_result = flag == CC_E or flag == CC_S
    cdef bint needs_carry = flag == CC_B or flag == CC_BE
    cdef bint needs_overflow = flag == CC_O or flag == CC_L or flag == CC_LE
    if (kind == PENDING_PRODUCT or needs_carry and (kind == PENDING_INC or kind == PENDING_DEC)
            or needs_overflow and kind >= PENDING_SHL):
        materialise_flags(t)
        kind = PENDING_NONE
    if kind == PENDING_NONE:
        return from_lazy_flags(t, code)
    if kind == PENDING_CMP:
        host = value_of(t, pending.a, HOST_RAX)
        if pending.b == IMMEDIATE and pending.immediate == 0 and (by_result or flag == CC_L or flag == CC_LE):
            emit_test(e, pending.width, host, host)
        else:
            with_b(t, pending.width, ALU_CMP, host)
    elif kind == PENDING_TEST:
        host = value_of(t, pending.a, HOST_RAX)
        if pending.b == IMMEDIATE:
            emit_test_i(e, pending.width, host, <int32_t>pending.immediate)
        else:
            emit_test(e, pending.width, host, value_of(t, pending.b, HOST_RDX))
    elif kind >= PENDING_SHL:
        shift_again(t)
    elif kind == PENDING_LOGIC or by_result:
        host = value_of(t, pending.a, HOST_RAX)
        emit_test(e, pending.width, host, host)
    else:
        recover_operand(t)
        if kind == PENDING_ADD:
            with_b(t, pending.width, ALU_ADD, HOST_RAX)
        elif kind == PENDING_SUB:
            with_b(t, pending.width, ALU_CMP, HOST_RAX)
        elif kind == PENDING_NEG:
            emit_unary(e, pending.width, UNARY_NEG, HOST_RAX)
        else:
            emit_alu_i(e, pending.width, ALU_ADD if kind == PENDING_INC else ALU_SUB, HOST_RAX, 1)
    return code
