/* Writes x86-64 instructions of the host (SDM vol. 2, 2.1 and 2.2), for the translator.
 *
 * Registers are given by their numbers in ModRM and REX, widths in bits. Nothing is written beyond `end`: once an
 * instruction does not fit, `full` is set, and the code so far is useless.
 */
#ifndef HVMX_EMIT_H
#define HVMX_EMIT_H

#include <stdint.h>
#include <string.h>

enum { HOST_RAX, HOST_RCX, HOST_RDX, HOST_RBX, HOST_RSP, HOST_RBP, HOST_RSI, HOST_RDI, HOST_R8, HOST_R15 = 15, HOST_NONE = 16 };

/* Numbers of the two-operand operations and of the shifts, as in opcodes 80-83 and C0-D3. */
enum { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };
enum { SHIFT_ROL, SHIFT_ROR, SHIFT_SHL = 4, SHIFT_SHR, SHIFT_SAR = 7 };

/* Of one operand: opcodes F6 and F7. */
enum { UNARY_NOT = 2, UNARY_NEG, UNARY_MUL, UNARY_IMUL };

/* Conditions of Jcc, SETcc, CMOVcc. */
enum { CC_O, CC_NO, CC_B, CC_AE, CC_E, CC_NE, CC_BE, CC_A, CC_S, CC_NS, CC_P, CC_NP, CC_L, CC_GE, CC_LE, CC_G };

typedef struct {
    uint8_t *at, *end;
    int full;
} Emitter;

static inline void emit_bytes(Emitter *e, const void *bytes, uint32_t count)
{
    if (e->end - e->at < count) {
        e->full = 1;
        return;
    }
    memcpy(e->at, bytes, count);
    e->at += count;
}

static inline void emit_8(Emitter *e, uint8_t value) { emit_bytes(e, &value, 1); }
static inline void emit_16(Emitter *e, uint16_t value) { emit_bytes(e, &value, 2); }
static inline void emit_32(Emitter *e, uint32_t value) { emit_bytes(e, &value, 4); }
static inline void emit_64(Emitter *e, uint64_t value) { emit_bytes(e, &value, 8); }

/* Prefixes and opcode. `bytes8`: ModRM may name SPL, BPL, SIL or DIL, which need a REX prefix (SDM vol. 2, 2.2.1.2). */
static inline void emit_opcode(Emitter *e, uint32_t width, uint32_t opcode, uint32_t reg, uint32_t index, uint32_t base, int bytes8)
{
    uint8_t rex = 0x40 | (width == 64) << 3 | (reg >> 3 & 1) << 2 | (index >> 3 & 1) << 1 | (base >> 3 & 1);
    if (width == 16)
        emit_8(e, 0x66);
    if (rex != 0x40 || bytes8)
        emit_8(e, rex);
    if (opcode > 0xff)
        emit_8(e, 0x0f);
    emit_8(e, opcode);
}

/* `opcode` with a register operand in ModRM.rm; two-byte opcodes are given as 0x0fXX. */
static inline void emit_rr(Emitter *e, uint32_t width, uint32_t opcode, uint32_t reg, uint32_t rm)
{
    emit_opcode(e, width, opcode, reg, 0, rm, width == 8);
    emit_8(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

/* ... with memory at base + index * 2^scale + disp; HOST_NONE for no base or no index. */
static inline void emit_rm(Emitter *e, uint32_t width, uint32_t opcode, uint32_t reg, uint32_t base, uint32_t index,
                           uint32_t scale, int32_t disp)
{
    uint32_t mod = base == HOST_NONE ? 0 : disp == 0 && (base & 7) != HOST_RBP ? 0 : disp == (int8_t)disp ? 1 : 2;
    emit_opcode(e, width, opcode, reg, index == HOST_NONE ? 0 : index, base == HOST_NONE ? 0 : base, width == 8);
    if (index == HOST_NONE && base != HOST_NONE && (base & 7) != HOST_RSP) {
        emit_8(e, mod << 6 | (reg & 7) << 3 | (base & 7));
    } else {
        emit_8(e, mod << 6 | (reg & 7) << 3 | 4);
        emit_8(e, scale << 6 | (index == HOST_NONE ? 4 : index & 7) << 3 | (base == HOST_NONE ? 5 : base & 7));
    }
    if (base == HOST_NONE || mod == 2)
        emit_32(e, disp);
    else if (mod == 1)
        emit_8(e, disp);
}

static inline void emit_lea(Emitter *e, uint32_t width, uint32_t to, uint32_t base, uint32_t index, uint32_t scale, int32_t disp)
{
    emit_rm(e, width, 0x8d, to, base, index, scale, disp);
}

/* MOV between a register and memory at base + disp. */
static inline void emit_load(Emitter *e, uint32_t width, uint32_t reg, uint32_t base, int32_t disp)
{
    emit_rm(e, width, width == 8 ? 0x8a : 0x8b, reg, base, HOST_NONE, 0, disp);
}

static inline void emit_store(Emitter *e, uint32_t width, uint32_t reg, uint32_t base, int32_t disp)
{
    emit_rm(e, width, width == 8 ? 0x88 : 0x89, reg, base, HOST_NONE, 0, disp);
}

static inline void emit_mov(Emitter *e, uint32_t width, uint32_t to, uint32_t from)
{
    emit_rr(e, width, width == 8 ? 0x88 : 0x89, from, to);
}

/* All 64 bits of a register; leaves the flags. */
static inline void emit_mov_i(Emitter *e, uint32_t to, uint64_t value)
{
    if (value <= 0xffffffff) {
        emit_opcode(e, 32, 0xb8 | (to & 7), 0, 0, to, 0);
        emit_32(e, value);
    } else if (value == (uint64_t)(int64_t)(int32_t)value) {
        emit_rr(e, 64, 0xc7, 0, to);
        emit_32(e, value);
    } else {
        emit_opcode(e, 64, 0xb8 | (to & 7), 0, 0, to, 0);
        emit_64(e, value);
    }
}

/* An immediate operand; of 64 bits it is sign-extended from 32. */
static inline void emit_immediate(Emitter *e, uint32_t width, int32_t value)
{
    if (width == 8)
        emit_8(e, value);
    else if (width == 16)
        emit_16(e, value);
    else
        emit_32(e, value);
}

/* The low `width` bits, of at most 16, of a register. */
static inline void emit_mov_low_i(Emitter *e, uint32_t width, uint32_t to, uint32_t value)
{
    emit_rr(e, width, width == 8 ? 0xc6 : 0xc7, 0, to);
    emit_immediate(e, width, value);
}

/* `width` bits of memory at base + index + disp. */
static inline void emit_store_i(Emitter *e, uint32_t width, uint32_t base, uint32_t index, int32_t disp, int32_t value)
{
    emit_rm(e, width, width == 8 ? 0xc6 : 0xc7, 0, base, index, 0, disp);
    emit_immediate(e, width, value);
}

static inline void emit_alu(Emitter *e, uint32_t width, uint32_t operation, uint32_t to, uint32_t from)
{
    emit_rr(e, width, operation << 3 | (width != 8), from, to);
}

static inline void emit_alu_immediate(Emitter *e, uint32_t width, int32_t value)
{
    emit_immediate(e, value == (int8_t)value ? 8 : width, value);
}

static inline void emit_alu_i(Emitter *e, uint32_t width, uint32_t operation, uint32_t to, int32_t value)
{
    emit_rr(e, width, width == 8 ? 0x80 : value == (int8_t)value ? 0x83 : 0x81, operation, to);
    emit_alu_immediate(e, width, value);
}

/* With memory at base + disp as the source. */
static inline void emit_alu_m(Emitter *e, uint32_t width, uint32_t operation, uint32_t to, uint32_t base, int32_t disp)
{
    emit_rm(e, width, operation << 3 | (width == 8 ? 2 : 3), to, base, HOST_NONE, 0, disp);
}

static inline void emit_alu_mi(Emitter *e, uint32_t width, uint32_t operation, uint32_t base, int32_t disp, int32_t value)
{
    emit_rm(e, width, width == 8 ? 0x80 : value == (int8_t)value ? 0x83 : 0x81, operation, base, HOST_NONE, 0, disp);
    emit_alu_immediate(e, width, value);
}

static inline void emit_add_to(Emitter *e, uint32_t base, int32_t disp, uint32_t from)
{
    emit_rm(e, 64, 0x01, from, base, HOST_NONE, 0, disp);
}

/* CF is the lowest bit of the memory at base + disp. */
static inline void emit_carry_from(Emitter *e, uint32_t base, int32_t disp)
{
    emit_rm(e, 32, 0x0fba, 4, base, HOST_NONE, 0, disp);
    emit_8(e, 0);
}

static inline void emit_unary(Emitter *e, uint32_t width, uint32_t operation, uint32_t reg)
{
    emit_rr(e, width, width == 8 ? 0xf6 : 0xf7, operation, reg);
}

static inline void emit_imul(Emitter *e, uint32_t width, uint32_t to, uint32_t from)
{
    emit_rr(e, width, 0x0faf, to, from);
}

static inline void emit_imul_i(Emitter *e, uint32_t width, uint32_t to, uint32_t from, int32_t value)
{
    emit_rr(e, width, 0x69, to, from);
    emit_32(e, value);
}

static inline void emit_test(Emitter *e, uint32_t width, uint32_t a, uint32_t b)
{
    emit_rr(e, width, width == 8 ? 0x84 : 0x85, b, a);
}

static inline void emit_test_i(Emitter *e, uint32_t width, uint32_t a, int32_t value)
{
    emit_rr(e, width, width == 8 ? 0xf6 : 0xf7, 0, a);
    emit_immediate(e, width, value);
}

static inline void emit_shift_i(Emitter *e, uint32_t width, uint32_t operation, uint32_t to, uint32_t count)
{
    emit_rr(e, width, width == 8 ? 0xc0 : 0xc1, operation, to);
    emit_8(e, count);
}

static inline void emit_shift_cl(Emitter *e, uint32_t width, uint32_t operation, uint32_t to)
{
    emit_rr(e, width, 0xd3, operation, to);
}

static inline void emit_cmov(Emitter *e, uint32_t width, uint32_t condition, uint32_t to, uint32_t from)
{
    emit_rr(e, width, 0x0f40 | condition, to, from);
}

/* MOVSX and MOVZX from `width` bits to all 64. */
static inline void emit_extend(Emitter *e, int sign, uint32_t width, uint32_t to, uint32_t from)
{
    if (width == 64)
        emit_mov(e, 64, to, from);
    else if (width == 32 && !sign)
        emit_mov(e, 32, to, from);
    else if (width == 32)
        emit_rr(e, 64, 0x63, to, from);
    else {
        emit_opcode(e, sign ? 64 : 32, (sign ? 0x0fbe : 0x0fb6) | (width == 16), to, 0, from, width == 8);
        emit_8(e, 0xc0 | (to & 7) << 3 | (from & 7));
    }
}

static inline void emit_bswap(Emitter *e, uint32_t width, uint32_t reg)
{
    emit_opcode(e, width, 0x0fc8 | (reg & 7), 0, 0, reg, 0);
}

/* 0 or 1 in all 64 bits. */
static inline void emit_set(Emitter *e, uint32_t condition, uint32_t to)
{
    emit_opcode(e, 8, 0x0f90 | condition, 0, 0, to, 1);
    emit_8(e, 0xc0 | (to & 7));
    emit_extend(e, 0, 8, to, to);
}

/* A jump whose distance emit_here() fills in; returns where. */
static inline uint8_t *emit_jump_if(Emitter *e, uint32_t condition)
{
    emit_8(e, 0x0f);
    emit_8(e, 0x80 | condition);
    emit_32(e, 0);
    return e->at;
}

static inline void emit_here(Emitter *e, uint8_t *jump)
{
    int32_t distance = (int32_t)(e->at - jump);
    if (!e->full)
        memcpy(jump - 4, &distance, 4);
}

static inline void emit_jump_to_register(Emitter *e, uint32_t reg)
{
    emit_rr(e, 32, 0xff, 4, reg);
}

static inline void emit_call_register(Emitter *e, uint32_t reg)
{
    emit_rr(e, 32, 0xff, 2, reg);
}

static inline void emit_jump_to_memory(Emitter *e, uint32_t base, int32_t disp)
{
    emit_rm(e, 32, 0xff, 4, base, HOST_NONE, 0, disp);
}

static inline void emit_return(Emitter *e) { emit_8(e, 0xc3); }

#endif
