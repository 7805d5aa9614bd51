# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.execute.integer.auxiliary cimport block_end, ea_based32, ea_based64, ea_flat32, ea_flat64, followed_jump
from hvmx.core.execute.integer.branch cimport call_handler, jcc_handler, jmp_handler
from hvmx.core.state.insn cimport FORM_I, FORM_NONE, FORM_R_RM, FORM_R_RM_I, FORM_RM, FORM_RM_CL, FORM_RM_I, FORM_RM_R
from hvmx.core.translate.emit cimport SHIFT_ROL, SHIFT_ROR, SHIFT_SAR, SHIFT_SHL, SHIFT_SHR
from hvmx.core.state.ops cimport *
from hvmx.core.state.state cimport *

# Handlers are registered when their modules are imported.
import hvmx.core.execute.integer.alu_8
import hvmx.core.execute.integer.alu_16
import hvmx.core.execute.integer.alu_32
import hvmx.core.execute.integer.alu_64
import hvmx.core.execute.integer.mov
import hvmx.core.execute.integer.muldiv
import hvmx.core.execute.integer.shift
import hvmx.core.execute.integer.stack

cdef enum:
    SLOTS = 4096                # of a hash table with open addressing; a power of 2, several times what is in it

cdef Template table[SLOTS]
cdef uint32_t filled = 0


cdef inline uint32_t slot_of(OpFn handler) noexcept nogil:
    cdef uint64_t value = <uint64_t>handler
    return <uint32_t>((value ^ (value >> 12)) >> 4) & (SLOTS - 1)


cdef const Template *template_of(OpFn handler) noexcept nogil:
    cdef uint32_t slot = slot_of(handler)
    while table[slot].handler != NULL:
        if table[slot].handler == handler:
            return &table[slot]
        slot = (slot + 1) & (SLOTS - 1)
    return NULL


cdef int add(OpFn handler, uint32_t kind, uint32_t width=0, uint32_t form=R_R, uint32_t address=ADDRESS_NONE,
             uint32_t which=0, bint quiet=False, uint32_t source_width=0) except -1:
    """Two operations may share a handler if they do the same."""
    global filled
    cdef uint32_t slot = slot_of(handler)
    if handler == NULL or template_of(handler) != NULL:
        return 0
    while table[slot].handler != NULL:
        slot = (slot + 1) & (SLOTS - 1)
    table[slot] = Template(handler, kind, form, width, source_width, address, which, quiet)
    filled += 1
    if filled > SLOTS // 2:
        raise RuntimeError("the table of templates is too small")
    return 0


FORMS = ((FORM_RM_R, R_R), (FORM_R_RM, R_R), (FORM_RM_I, R_I))
MEMORY_FORMS = ((FORM_R_RM, R_M), (FORM_RM_R, M_R), (FORM_RM_I, M_I))
ADDRESSES = (ADDRESS_32, ADDRESS_64, ADDRESS_EA, ADDRESS_BASE_32, ADDRESS_BASE_64)
ALU = ("add", "or", "adc", "sbb", "and", "sub", "xor", "cmp")
SHIFTS = ((SHIFT_SHL, "shl"), (SHIFT_SHR, "shr"), (SHIFT_SAR, "sar"))
ROTATES = ((SHIFT_ROL, "rol"), (SHIFT_ROR, "ror"))


cdef int add_arithmetic(uint32_t w) except -1:
    cdef uint32_t number, form, known, address, which, kind
    for which, name in enumerate((*ALU, "test")):
        number = family_numbers[name]
        kind = T_TEST if name == "test" else T_ALU
        for form, known in FORMS:
            add(handler_of(number, form, w, ADDRESS_NONE), kind, w, known, ADDRESS_NONE, which)
            add(variant_of(number, form, w, ADDRESS_NONE, FLAGS_CARRY), kind, w, known, ADDRESS_NONE, which)
            add(variant_of(number, form, w, ADDRESS_NONE, FLAGS_NONE), kind, w, known, ADDRESS_NONE, which, True)
        for form, known in MEMORY_FORMS:
            for address in ADDRESSES:
                add(handler_of(number, form, w, address), kind, w, known, address, which)
                add(variant_of(number, form, w, address, FLAGS_NONE), kind, w, known, address, which, True)
    for kind, name in ((T_INC, "inc"), (T_DEC, "dec"), (T_NEG, "neg"), (T_NOT, "not")):
        number = family_numbers[name]
        add(handler_of(number, FORM_RM, w, ADDRESS_NONE), kind, w)
        add(variant_of(number, FORM_RM, w, ADDRESS_NONE, FLAGS_NONE), kind, w, R_R, ADDRESS_NONE, 0, True)
        for address in ADDRESSES:
            add(handler_of(number, FORM_RM, w, address), kind, w, M_R, address)
    return 0


cdef int add_shifts(uint32_t w) except -1:
    cdef uint32_t which
    for which, name in SHIFTS:
        add(handler_of(family_numbers[name], FORM_RM_I, w, ADDRESS_NONE), T_SHIFT, w, R_I, ADDRESS_NONE, which)
    if w < 32:
        return 0
    for which, name in SHIFTS:
        add(handler_of(family_numbers[name], FORM_RM_CL, w, ADDRESS_NONE), T_SHIFT_CL, w, R_R, ADDRESS_NONE, which)
    for which, name in (*ROTATES, *SHIFTS):
        add(variant_of(family_numbers[name], FORM_RM_I, w, ADDRESS_NONE, FLAGS_NONE), T_SHIFT, w, R_I, ADDRESS_NONE, which, True)
    return 0


cdef int add_moves(uint32_t w) except -1:
    cdef uint32_t number = family_numbers["mov"]
    cdef uint32_t form, known, address
    for form, known in FORMS:
        add(handler_of(number, form, w, ADDRESS_NONE), T_MOV, w, known)
    for form, known in MEMORY_FORMS:
        for address in ADDRESSES:
            add(handler_of(number, form, w, address), T_MOV, w, known, address)
    if w < 32:
        return 0
    for address in (ADDRESS_32, ADDRESS_64, ADDRESS_BASE_32, ADDRESS_BASE_64):
        add(handler_of(family_numbers["lea"], FORM_R_RM, w, address), T_LEA, w, R_M, address)
    add(handler_of(family_numbers["xchg"], FORM_RM_R, w, ADDRESS_NONE), T_XCHG, w)
    add(handler_of(family_numbers["bswap"], FORM_RM, w, ADDRESS_NONE), T_BSWAP, w)
    add(handler_of(family_numbers["cbw"], FORM_NONE, w, ADDRESS_NONE), T_WIDEN, w)
    add(handler_of(family_numbers["cwd"], FORM_NONE, w, ADDRESS_NONE), T_WIDEN_TWO, w)
    add(handler_of(family_numbers["cmovcc"], FORM_R_RM, w, ADDRESS_NONE), T_CMOV, w)
    add(handler_of(family_numbers["cmovcc"], FORM_R_RM, w, ADDRESS_EA), T_CMOV, w, R_M, ADDRESS_EA)
    return 0


cdef int add_extensions(uint32_t w) except -1:
    cdef uint32_t number, form, address, source
    cdef bint extended_sign
    for name in ("movzx", "movsx", "movsxd"):
        number = family_numbers[name]
        extended_sign = name != "movzx"
        for form, source in ((FORM_R_RM8, 8), (FORM_R_RM16, 16), (FORM_R_RM32, 32)):
            if source < w:
                add(handler_of(number, form, w, ADDRESS_NONE), T_EXTEND, w, R_R, ADDRESS_NONE, extended_sign, False, source)
                for address in ADDRESSES:
                    add(handler_of(number, form, w, address), T_EXTEND, w, R_M, address, extended_sign, False, source)
    return 0


cdef int add_products(uint32_t w) except -1:
    cdef uint32_t which
    add(handler_of(family_numbers["imul"], FORM_R_RM, w, ADDRESS_NONE), T_IMUL, w, R_R)
    add(handler_of(family_numbers["imul"], FORM_R_RM_I, w, ADDRESS_NONE), T_IMUL, w, R_I)
    add(handler_of(family_numbers["imul"], FORM_R_RM, w, ADDRESS_EA), T_IMUL, w, R_M, ADDRESS_EA)
    for which, name in enumerate(("mul", "imul")):
        add(handler_of(family_numbers[name], FORM_RM, w, ADDRESS_NONE), T_MUL, w, R_R, ADDRESS_NONE, which)
        add(handler_of(family_numbers[name], FORM_RM, w, ADDRESS_EA), T_MUL, w, R_M, ADDRESS_EA, which)
    return 0


cdef int add_stack_and_calls(uint32_t w) except -1:
    cdef uint32_t address = ADDRESS_32 if w == 32 else ADDRESS_64
    add(handler_of(family_numbers["push"], FORM_RM, w, address), T_PUSH, w, R_R)
    add(handler_of(family_numbers["push"], FORM_I, w, address), T_PUSH, w, R_I)
    add(handler_of(family_numbers["pop"], FORM_RM, w, address), T_POP, w, R_R)
    add(handler_of(family_numbers["leave"], FORM_NONE, w, address), T_LEAVE, w, R_R)
    add(handler_of(family_numbers["ret"], FORM_NONE, w, address), T_RET, w, R_R)
    add(handler_of(family_numbers["ret"], FORM_I, w, address), T_RET, w, R_R)
    add(handler_of(family_numbers["push"], FORM_STACK_M, w, address), T_PUSH, w, R_M, ADDRESS_EA)
    add(handler_of(family_numbers["call"], FORM_RM, w, address), T_CALL_TO, w, R_R)
    add(handler_of(family_numbers["call"], FORM_STACK_M, w, address), T_CALL_TO, w, R_M, ADDRESS_EA)
    add(handler_of(family_numbers["jmp"], FORM_RM, w, ADDRESS_NONE), T_JMP_TO, w, R_R)
    add(handler_of(family_numbers["jmp"], FORM_RM, w, ADDRESS_EA), T_JMP_TO, w, R_M, ADDRESS_EA)
    add(call_handler(w, address, True, False), T_CALL, w, R_R)
    add(call_handler(w, address, False, False), T_CALL_OTHER_PAGE, w, R_R)
    return 0


cdef int add_jumps() except -1:
    cdef uint32_t code
    for code in range(16):
        add(jcc_handler(code, True, False), T_JCC, 0, R_R, ADDRESS_NONE, code)
        add(jcc_handler(code, False, False), T_JCC_OTHER_PAGE, 0, R_R, ADDRESS_NONE, code)
    add(jmp_handler(True, False), T_JMP)
    add(jmp_handler(False, False), T_JMP_OTHER_PAGE)
    return 0


cdef int add_auxiliary() except -1:
    """The operations that are no instruction: addresses, the end of a block; and what does nothing."""
    add(ea_flat32, T_EA, 32, R_M, ADDRESS_32)
    add(ea_flat64, T_EA, 64, R_M, ADDRESS_64)
    add(ea_based32, T_EA_BASED, 32, R_M, ADDRESS_32)
    add(ea_based64, T_EA_BASED, 64, R_M, ADDRESS_64)
    add(followed_jump, T_NOP)
    add(block_end, T_END)
    add(handler_of(family_numbers["nop"], FORM_NONE, 32, ADDRESS_NONE), T_NOP)
    return 0


cdef int fill() except -1:
    cdef uint32_t w
    for w in (8, 16, 32, 64):
        add_arithmetic(w)
        add_moves(w)
        add_extensions(w)
        add_shifts(w)
    for w in (32, 64):
        add_products(w)
        add_stack_and_calls(w)
    add(handler_of(family_numbers["setcc"], FORM_RM, 8, ADDRESS_NONE), T_SETCC, 8)
    add_jumps()
    add_auxiliary()
    return 0


fill()
