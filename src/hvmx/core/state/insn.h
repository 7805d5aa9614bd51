/* One decoded instruction, and one row of the decoder's tables. */
#ifndef HVMX_INSN_H
#define HVMX_INSN_H

#include <stdint.h>

#include "state.h"

/* What the decoder returns instead of a length. */
enum insn_decode_error {
    DECODE_NEED_MORE = -1, /* the bytes ended before the instruction did */
    DECODE_TOO_LONG = -2,  /* more than 15 bytes: #GP (SDM volume 2, section 2.3.11) */
    DECODE_UNDEFINED = -3, /* #UD */
};

/* The shape of the operands, destination first. RM is a register or memory, R is the register in `reg`, I is `imm`.
   A register that the opcode itself names, and an accumulator, stand in `rm` like any other: `B8+r` is RM_I and
   `IN AL, imm8` too, `90+r` is RM_R with the accumulator in `reg`, and MOV to and from an absolute offset is RM_R or
   R_RM with no base. */
enum insn_form {
    FORM_NONE,
    FORM_RM,
    FORM_R,
    FORM_RM_R,
    FORM_R_RM,
    FORM_RM_I,
    FORM_RM_CL,
    FORM_R_RM_I,
    FORM_RM_R_I,
    FORM_RM_R_CL,
    FORM_I,
    FORM_I_I, /* far pointers (offset in imm, selector in imm2) and ENTER */
    FORM_REL, /* imm is the displacement from the next instruction */
};

enum insn_prefix {
    PREFIX_LOCK = 1,
    PREFIX_REP = 2,   /* F3; of F3 and F2 the last one counts */
    PREFIX_REPNE = 4, /* F2 */
    PREFIX_OPSIZE = 8,
    PREFIX_ADDRSIZE = 16,
};

enum insn_rex { REX_B = 1, REX_X = 2, REX_R = 4, REX_W = 8 };

typedef struct {
    int64_t disp; /* sign-extended; zero-extended for an absolute offset */
    int64_t imm;  /* sign-extended where the instruction does, else zero-extended */
    uint16_t imm2;
    uint16_t row;    /* index into insn_rows */
    uint16_t family; /* FAM_... */
    uint8_t cost;    /* COST_...: the row's class, at this operand size */
    uint8_t form;
    uint8_t length;
    uint8_t opsize;   /* bits of the first operand that is no immediate; the operand-size attribute if none is */
    uint8_t opsize2;  /* bits of the second; as opsize if there is none */
    uint8_t addrsize; /* 16, 32 or 64 */
    uint8_t prefixes;
    uint8_t rex;     /* 0 or 0x40-0x4F */
    uint8_t segment; /* of the memory operand, or of the source of a string instruction */
    uint8_t cc;      /* the opcode's low four bits: the condition of Jcc, SETcc, CMOVcc */
    uint8_t reg;     /* general or XMM (0-15), MMX (0-7), segment, control or debug register */
    uint8_t rm;      /* general, XMM or MMX register; meaningless if is_mem */
    uint8_t reg_offset; /* byte offset in the register file of the register in reg; AH-BH are 1, 9, 17, 25 */
    uint8_t rm_offset;
    uint8_t is_mem;
    uint8_t base;  /* 0-15, or REG_ZERO if there is none */
    uint8_t index; /* 0-15, or REG_ZERO if there is none */
    uint8_t scale; /* shift count: 0-3 */
    uint8_t rip_relative; /* disp counts from the next instruction, which is not added yet */
} Insn;

/* The columns that the table's documentation explains (isa/__init__.py), a bit each. */
enum insn_row_flag {
    ROW_LOCK = 1 << 0,
    ROW_D64 = 1 << 1,
    ROW_F64 = 1 << 2,
    ROW_PROTECTED = 1 << 3, /* #UD in real-address and virtual-8086 mode: checked when executed */
    ROW_CPL0 = 1 << 4,      /* #GP outside ring 0: checked when executed */
    ROW_REX_W = 1 << 5,
    ROW_NO_REX_B = 1 << 6,
    ROW_NO_REX_W = 1 << 7,
    ROW_SIZED_COST = 1 << 8,
    ROW_MEM_READ = 1 << 9, /* an explicit memory operand is read */
    ROW_MEM_WRITE = 1 << 10,
    ROW_ALIGNED = 1 << 11, /* #GP where the memory operand is not at a multiple of 16: checked when executed */
    ROW_SSE = 1 << 12,     /* an operand is an XMM register, or it is checked as if one were */
    ROW_MMX = 1 << 13,     /* an operand is an MMX register, or all of them are (EMMS) */
    ROW_X87 = 1 << 14,
    ROW_X87_NO_WAIT = 1 << 15,
    ROW_CONDITION = 1 << 16, /* the opcode's low four bits are one */
    ROW_STRING = 1 << 17,    /* REP repeats it */
    ROW_NUMBERED = 1 << 18,  /* an operand is a segment, control, debug or test register */
    ROW_ENDS_BLOCK = 1 << 19,
    ROW_STACK = 1 << 20,
    ROW_UNACCESSED = 1 << 21,
    ROW_LATE_ADDRESS = 1 << 22, /* the handler checks the memory operand's address itself, after other things */
    ROW_LOCKED = 1 << 23,       /* with a memory operand, LOCK or not */
    ROW_PURE = 1 << 24,         /* with register operands it can neither fault nor leave */
    ROW_COUNTED = 1 << 25,      /* the immediate is a shift count: by 0 it writes no flags */
};

/* Operand types of the table; v, y and z depend on the operand-size attribute. */
enum insn_width { WIDTH_8, WIDTH_16, WIDTH_32, WIDTH_64, WIDTH_128, WIDTH_V, WIDTH_Y, WIDTH_Z, WIDTH_RV_MW, WIDTH_RY_MW, WIDTH_80 };

enum insn_immediate {
    IMM_NONE,
    IMM_ONE, /* the constant 1 */
    IMM_8,
    IMM_8_SIGNED,
    IMM_16,
    IMM_Z,
    IMM_V,
    IMM_FAR,
    IMM_16_8,
    IMM_X87, /* not in the instruction: the opcode's low three bits and ModRM, as FOP has them */
};

/* Where a row finds its rm and reg operands. */
enum insn_rm_source { RM_NONE, RM_MODRM, RM_OPCODE, RM_ACCUMULATOR, RM_ABSOLUTE, RM_MMX };
enum insn_reg_source { REG_NONE, REG_GENERAL, REG_SEGMENT, REG_CONTROL, REG_DEBUG, REG_FIXED, REG_MMX, REG_TEST };

enum { MOD_MEMORY = 1, MOD_REGISTER = 2 };

/* What happens to a register. */
enum insn_access { ACCESS_READ = 1, ACCESS_WRITE = 2 };

/* Kinds of register, by the number of their first among all whose dependencies count. The x87's are the MMX registers,
   numbered from the top of the stack: a row with ROW_MMX means them by their own numbers. */
enum insn_bank { BANK_GENERAL = 0, BANK_XMM = 16, BANK_MMX = 32, BANK_COUNT = 40 };

typedef struct {
    uint32_t flags_read, flags_written, flags_undefined; /* EFLAGS bits */
    uint32_t flags; /* ROW_... */
    uint16_t family;
    uint8_t modes;        /* bit 0: 16, bit 1: 32, bit 2: 64 */
    uint8_t prefixes;     /* bit 0: none, 1: 66, 2: F3, 3: F2 */
    uint8_t modrm_mask, modrm_value;
    uint8_t mods;         /* MOD_... */
    uint8_t form;
    uint8_t width, width2; /* WIDTH_... */
    uint8_t immediate;     /* IMM_... */
    uint8_t rm_source, reg_source;
    uint8_t fixed_reg;     /* for REG_FIXED */
    uint8_t rm_bank, reg_bank;   /* BANK_... */
    uint8_t rm_access;           /* ACCESS_..., of the register in rm */
    uint8_t reg_access;          /* and of that in reg, where rm is a register */
    uint8_t reg_access_mem;      /* and where it is memory */
    uint8_t xmm0_access;         /* where no operand names XMM0 */
    uint16_t implicit_read, implicit_written; /* general registers that neither rm nor reg has, a bit each */
    uint16_t implicit_sized;     /* of those written: so much as the operand size */
    uint8_t x87_read, x87_written; /* the same of ST(0) to ST(7), as numbered before the instruction */
    int8_t x87_push;             /* by how much the x87 stack grows */
    uint8_t cost, feature;
} InsnRow;

enum opcode_flag { OPCODE_MODRM = 1, OPCODE_MOD_IGNORED = 2 };

/* The rows of one opcode: `count` of them from `first`, tried in order. */
typedef struct {
    uint16_t first;
    uint8_t count;
    uint8_t flags;
} OpcodeRows;

#endif
