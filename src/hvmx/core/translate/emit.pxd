# cython: language_level=3
"""Instructions of the host, written one after the other: see emit.h."""
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

cdef extern from "emit.h" nogil:
    enum:
        HOST_RAX
        HOST_RCX
        HOST_RDX
        HOST_RBX
        HOST_RBP
        HOST_RSI
        HOST_RDI
        HOST_R8
        HOST_R15
        HOST_NONE
    enum:
        ALU_ADD
        ALU_OR
        ALU_ADC
        ALU_SBB
        ALU_AND
        ALU_SUB
        ALU_XOR
        ALU_CMP
    enum:
        SHIFT_ROL
        SHIFT_ROR
        SHIFT_SHL
        SHIFT_SHR
        SHIFT_SAR
    enum:
        UNARY_NOT
        UNARY_NEG
        UNARY_MUL
        UNARY_IMUL
    enum:
        CC_O
        CC_B
        CC_E
        CC_NE
        CC_BE
        CC_S
        CC_NS
        CC_P
        CC_L
        CC_LE

    ctypedef struct Emitter:
        uint8_t *at
        uint8_t *end
        int full

    void emit_rm(Emitter *, uint32_t width, uint32_t opcode, uint32_t reg, uint32_t base, uint32_t index, uint32_t scale, int32_t disp)
    void emit_lea(Emitter *, uint32_t width, uint32_t to, uint32_t base, uint32_t index, uint32_t scale, int32_t disp)
    void emit_load(Emitter *, uint32_t width, uint32_t reg, uint32_t base, int32_t disp)
    void emit_store(Emitter *, uint32_t width, uint32_t reg, uint32_t base, int32_t disp)
    void emit_mov(Emitter *, uint32_t width, uint32_t to, uint32_t source)
    void emit_mov_i(Emitter *, uint32_t to, uint64_t value)
    void emit_mov_low_i(Emitter *, uint32_t width, uint32_t to, uint32_t value)
    void emit_store_i(Emitter *, uint32_t width, uint32_t base, uint32_t index, int32_t disp, int32_t value)
    void emit_alu(Emitter *, uint32_t width, uint32_t operation, uint32_t to, uint32_t source)
    void emit_alu_i(Emitter *, uint32_t width, uint32_t operation, uint32_t to, int32_t value)
    void emit_alu_m(Emitter *, uint32_t width, uint32_t operation, uint32_t to, uint32_t base, int32_t disp)
    void emit_alu_mi(Emitter *, uint32_t width, uint32_t operation, uint32_t base, int32_t disp, int32_t value)
    void emit_add_to(Emitter *, uint32_t base, int32_t disp, uint32_t source)
    void emit_carry_from(Emitter *, uint32_t base, int32_t disp)
    void emit_unary(Emitter *, uint32_t width, uint32_t operation, uint32_t reg)
    void emit_imul(Emitter *, uint32_t width, uint32_t to, uint32_t source)
    void emit_imul_i(Emitter *, uint32_t width, uint32_t to, uint32_t source, int32_t value)
    void emit_test(Emitter *, uint32_t width, uint32_t a, uint32_t b)
    void emit_test_i(Emitter *, uint32_t width, uint32_t a, int32_t value)
    void emit_shift_i(Emitter *, uint32_t width, uint32_t operation, uint32_t to, uint32_t count)
    void emit_shift_cl(Emitter *, uint32_t width, uint32_t operation, uint32_t to)
    void emit_cmov(Emitter *, uint32_t width, uint32_t condition, uint32_t to, uint32_t source)
    void emit_extend(Emitter *, int sign, uint32_t width, uint32_t to, uint32_t source)
    void emit_bswap(Emitter *, uint32_t width, uint32_t reg)
    void emit_set(Emitter *, uint32_t condition, uint32_t to)
    uint8_t *emit_jump_if(Emitter *, uint32_t condition)
    void emit_here(Emitter *, uint8_t *jump)
    void emit_jump_to_register(Emitter *, uint32_t reg)
    void emit_call_register(Emitter *, uint32_t reg)
    void emit_jump_to_memory(Emitter *, uint32_t base, int32_t disp)
    void emit_return(Emitter *)
