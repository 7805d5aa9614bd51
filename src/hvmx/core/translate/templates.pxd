# cython: language_level=3
"""What the translator knows of operations: for each handler that it can replace, what it does."""
from libc.stdint cimport uint8_t, uint32_t

from hvmx.core.state.state cimport *

cdef enum:
    T_MOV, T_EXTEND, T_LEA, T_XCHG, T_BSWAP, T_WIDEN, T_WIDEN_TWO, T_NOP
    T_ALU, T_TEST, T_INC, T_DEC, T_NEG, T_NOT, T_SHIFT, T_SHIFT_CL, T_IMUL, T_MUL
    T_SETCC, T_CMOV
    T_PUSH, T_POP, T_LEAVE
    T_EA, T_EA_BASED
    T_JCC, T_JCC_OTHER_PAGE
    T_JMP, T_JMP_OTHER_PAGE, T_CALL, T_CALL_OTHER_PAGE, T_RET, T_JMP_TO, T_CALL_TO, T_END  # these end a block

cdef enum:
    R_R, R_I, R_M, M_R, M_I     # target and source: register, immediate, memory

ctypedef struct Template:
    OpFn handler
    uint8_t kind                # T_*
    uint8_t form                # R_R and so on
    uint8_t width               # of the operation, or of the stack's slots, in bits
    uint8_t source_width        # T_EXTEND: of the source
    uint8_t address             # ADDRESS_*: how the memory operand is found
    uint8_t which               # ALU_*, SHIFT_*, or for T_EXTEND and T_MUL: signed
    uint8_t quiet               # leaves the arithmetic flags alone: nobody reads what they would be

cdef inline bint has_memory(uint32_t form) noexcept nogil:
    return form == R_M or form == M_R or form == M_I


cdef inline bint has_register_target(uint32_t form) noexcept nogil:
    return form == R_R or form == R_I or form == R_M


cdef inline bint has_register_source(uint32_t form) noexcept nogil:
    return form == R_R or form == M_R


cdef inline bint has_two_operands(uint32_t kind) noexcept nogil:
    return kind == T_MOV or kind == T_ALU or kind == T_TEST


cdef inline bint ends_block(uint32_t kind) noexcept nogil:
    return kind >= T_JMP


# NULL for a handler that the translator leaves to the interpreter.
cdef const Template *template_of(OpFn handler) noexcept nogil
