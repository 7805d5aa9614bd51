# cython: language_level=3
from libc.stdint cimport int32_t, int64_t, uint32_t

from hvmx.core.translate.registers cimport taken
from hvmx.core.translate.trace cimport *


cdef uint32_t value_of(Stretch *t, uint32_t guest, uint32_t scratch) noexcept nogil:
    """A register of the host with the value of the guest's: `scratch`, if none holds it."""
    if t.now.host_of[guest] != HOST_NONE:
        return t.now.host_of[guest]
    emit_load(&t.e, 64, scratch, HOST_RDI, at_register(guest))
    return scratch


cdef void with_b(Stretch *t, uint32_t width, uint32_t operation, uint32_t to) noexcept nogil:
    """An operation with the second operand of what is owed, which RDX may have to hold."""
    if t.now.owed.b == IMMEDIATE:
        emit_alu_i(&t.e, width, operation, to, <int32_t>t.now.owed.immediate)
    else:
        emit_alu(&t.e, width, operation, to, value_of(t, t.now.owed.b, HOST_RDX))


cdef void value_into(Stretch *t, uint32_t guest, uint32_t host) noexcept nogil:
    cdef uint32_t found = value_of(t, guest, host)
    if found != host:
        emit_mov(&t.e, 64, host, found)


cdef void store_word(Stretch *t, uint32_t host, int32_t at) noexcept nogil:
    emit_store(&t.e, 64, host, HOST_RDI, at)


cdef void owe(Stretch *t, uint32_t kind, uint32_t width, uint32_t a, uint32_t b, int64_t immediate) noexcept nogil:
    t.now.owed.kind = <uint8_t>kind
    t.now.owed.width = <uint8_t>width
    t.now.owed.a = <uint8_t>a
    t.now.owed.b = <uint8_t>b
    t.now.owed.immediate = immediate


cdef void store_flags(Stretch *t, uint32_t width, uint32_t result, uint32_t aux, uint32_t carry) noexcept nogil:
    store_word(t, carry, AT_FL_CF)
    emit_extend(&t.e, True, width, aux, aux)
    store_word(t, aux, AT_FL_AUX)
    emit_extend(&t.e, True, width, HOST_RAX, result)
    store_word(t, HOST_RAX, AT_FL_RES)


cdef void settle_difference(Stretch *t, uint32_t operation) noexcept nogil:
    """RAX holds the first operand of an addition or subtraction; CF and the other flags come from doing it."""
    cdef Emitter *e = &t.e
    emit_mov(e, 64, HOST_RCX, HOST_RAX)
    with_b(t, 64, ALU_XOR, HOST_RCX)
    with_b(t, t.now.owed.width, operation, HOST_RAX)
    emit_set(e, CC_B, HOST_RDX)
    emit_alu(e, 64, ALU_XOR, HOST_RCX, HOST_RAX)
    store_flags(t, t.now.owed.width, HOST_RAX, HOST_RCX, HOST_RDX)


cdef void settle_logic(Stretch *t, uint32_t host) noexcept nogil:
    emit_extend(&t.e, True, t.now.owed.width, HOST_RAX, host)
    store_word(t, HOST_RAX, AT_FL_RES)
    emit_store_i(&t.e, 64, HOST_RDI, HOST_NONE, AT_FL_AUX, 0)
    emit_store_i(&t.e, 64, HOST_RDI, HOST_NONE, AT_FL_CF, 0)


cdef void settle_count(Stretch *t) noexcept nogil:
    """INC and DEC: as ADD and SUB of 1, but for CF; OF is stored relative to it."""
    cdef Emitter *e = &t.e
    cdef uint32_t width = t.now.owed.width
    cdef uint32_t result = value_of(t, t.now.owed.a, HOST_RAX)
    emit_mov(e, 64, HOST_RCX, result)
    if t.now.owed.kind == OWED_INC:
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
    return SHIFT_SHL if kind == OWED_SHL else SHIFT_SHR if kind == OWED_SHR else SHIFT_SAR


cdef void shift_again(Stretch *t) noexcept nogil:
    """The result in RAX, and the host's flags, which are the guest's but for OF and AF."""
    emit_mov(&t.e, 64, HOST_RAX, t.now.host_of[VALUE])
    emit_shift_i(&t.e, t.now.owed.width, shift_of(t.now.owed.kind), HOST_RAX, <uint32_t>t.now.owed.immediate)


cdef void flags_of_shift(Stretch *t, uint32_t which, uint32_t width, uint32_t result) noexcept nogil:
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


cdef void before(Stretch *t) noexcept nogil:
    """In RAX what the result was made from, of ADD, SUB, INC, DEC and NEG."""
    cdef uint32_t kind = t.now.owed.kind
    value_into(t, t.now.owed.a, HOST_RAX)
    if kind == OWED_ADD:
        with_b(t, 64, ALU_SUB, HOST_RAX)
    elif kind == OWED_SUB:
        with_b(t, 64, ALU_ADD, HOST_RAX)
    elif kind == OWED_INC:
        emit_alu_i(&t.e, 64, ALU_SUB, HOST_RAX, 1)
    elif kind == OWED_DEC:
        emit_alu_i(&t.e, 64, ALU_ADD, HOST_RAX, 1)
    else:
        emit_unary(&t.e, 64, UNARY_NEG, HOST_RAX)


cdef void settle(Stretch *t) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef Owed *owed = &t.now.owed
    if owed.kind == OWED_CMP:
        value_into(t, owed.a, HOST_RAX)
        settle_difference(t, ALU_SUB)
    elif owed.kind == OWED_ADD or owed.kind == OWED_SUB:
        before(t)
        settle_difference(t, ALU_ADD if owed.kind == OWED_ADD else ALU_SUB)
    elif owed.kind == OWED_NEG:
        before(t)
        emit_mov(e, 64, HOST_RCX, HOST_RAX)
        emit_unary(e, owed.width, UNARY_NEG, HOST_RAX)
        emit_set(e, CC_B, HOST_RDX)
        emit_alu(e, 64, ALU_XOR, HOST_RCX, HOST_RAX)
        store_flags(t, owed.width, HOST_RAX, HOST_RCX, HOST_RDX)
    elif owed.kind == OWED_TEST:
        value_into(t, owed.a, HOST_RAX)
        with_b(t, 64, ALU_AND, HOST_RAX)
        settle_logic(t, HOST_RAX)
    elif owed.kind == OWED_LOGIC:
        settle_logic(t, value_of(t, owed.a, HOST_RAX))
    elif owed.kind == OWED_INC or owed.kind == OWED_DEC:
        settle_count(t)
    elif owed.kind == OWED_PRODUCT:
        store_word(t, t.now.host_of[VALUE], AT_FL_CF)
        emit_extend(e, True, owed.width, HOST_RAX, value_of(t, owed.a, HOST_RAX))
        store_word(t, HOST_RAX, AT_FL_RES)
        emit_store_i(e, 64, HOST_RDI, HOST_NONE, AT_FL_AUX, 0)
    elif owed.kind != OWED_NOTHING:
        shift_again(t)
        flags_of_shift(t, shift_of(owed.kind), owed.width, HOST_RAX)
    owed.kind = OWED_NOTHING


cdef void release(Stretch *t, uint32_t guest) noexcept nogil:
    cdef Owed *owed = &t.now.owed
    cdef uint32_t host
    if owed.kind == OWED_NOTHING or OWED_SHL <= owed.kind <= OWED_SAR or owed.a != guest and owed.b != guest:
        return
    if needs_value(t) or t.now.host_of[guest] == HOST_NONE:
        settle(t)
        return
    host = t.now.host_of[guest]
    t.used[host] = t.clock
    emit_mov(&t.e, 64, taken(t, VALUE), host)
    if owed.a == guest:
        owed.a = VALUE
    if owed.b == guest:
        owed.b = VALUE


cdef void free_value(Stretch *t) noexcept nogil:
    if needs_value(t):
        settle(t)


cdef uint32_t from_lazy_flags(Stretch *t, uint32_t code) noexcept nogil:
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


cdef uint32_t condition_of(Stretch *t, uint32_t code) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef Owed *owed = &t.now.owed
    cdef uint32_t kind = owed.kind, host
    cdef uint32_t flag = code & ~<uint32_t>1
    cdef bint by_result = flag == CC_E or flag == CC_S
    cdef bint needs_carry = flag == CC_B or flag == CC_BE
    cdef bint needs_overflow = flag == CC_O or flag == CC_L or flag == CC_LE
    if kind == OWED_PRODUCT or needs_carry and (kind == OWED_INC or kind == OWED_DEC) or needs_overflow and kind >= OWED_SHL:
        settle(t)
        kind = OWED_NOTHING
    if kind == OWED_NOTHING:
        return from_lazy_flags(t, code)
    if kind == OWED_CMP:
        host = value_of(t, owed.a, HOST_RAX)
        if owed.b == IMMEDIATE and owed.immediate == 0 and (by_result or flag == CC_L or flag == CC_LE):
            emit_test(e, owed.width, host, host)
        else:
            with_b(t, owed.width, ALU_CMP, host)
    elif kind == OWED_TEST:
        host = value_of(t, owed.a, HOST_RAX)
        if owed.b == IMMEDIATE:
            emit_test_i(e, owed.width, host, <int32_t>owed.immediate)
        else:
            emit_test(e, owed.width, host, value_of(t, owed.b, HOST_RDX))
    elif kind >= OWED_SHL:
        shift_again(t)
    elif kind == OWED_LOGIC or by_result:
        host = value_of(t, owed.a, HOST_RAX)
        emit_test(e, owed.width, host, host)
    else:
        before(t)
        if kind == OWED_ADD:
            with_b(t, owed.width, ALU_ADD, HOST_RAX)
        elif kind == OWED_SUB:
            with_b(t, owed.width, ALU_CMP, HOST_RAX)
        elif kind == OWED_NEG:
            emit_unary(e, owed.width, UNARY_NEG, HOST_RAX)
        else:
            emit_alu_i(e, owed.width, ALU_ADD if kind == OWED_INC else ALU_SUB, HOST_RAX, 1)
    return code
