# cython: language_level=3
"""What the translator knows of operations: for each handler that it can replace, what it does."""
from libc.stdint cimport uint8_t

from hvmx.core.state cimport *

cdef enum:
    T_MOV, T_EXTEND, T_LEA, T_XCHG, T_BSWAP, T_WIDEN, T_WIDEN_TWO, T_NOP
    T_ALU, T_TEST, T_INC, T_DEC, T_NEG, T_NOT, T_SHIFT, T_IMUL, T_MUL
    T_SETCC, T_CMOV
    T_PUSH, T_POP, T_LEAVE
    T_EA, T_EA_BASED
    T_JCC, T_JCC_FAR, T_JMP, T_JMP_FAR, T_CALL, T_CALL_FAR, T_RET, T_JMP_TO, T_CALL_TO, T_END

cdef enum:
    R_R, R_I, R_M, M_R, M_I     # destination and source: register, immediate, memory; T_SHIFT: R_R is by CL

ctypedef struct Template:
    OpFn handler
    uint8_t kind                # T_*
    uint8_t form                # R_R and so on
    uint8_t width               # of the operation, in bits; of the stack's slots
    uint8_t source_width        # T_EXTEND: of the source
    uint8_t address             # ADDRESS_*: how a memory operand is found, or which stack
    uint8_t which               # ALU_*, SHIFT_*, or for T_EXTEND and T_MUL: signed
    uint8_t quiet               # leaves the arithmetic flags alone: nobody reads what they would be

# NULL for a handler that the translator leaves to the interpreter.
cdef const Template *template_of(OpFn handler) noexcept nogil
