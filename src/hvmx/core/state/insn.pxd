# cython: language_level=3
"""Cython's view of insn.h: a decoded instruction, and a row of the instruction table."""
from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "insn.h" nogil:
    enum:
        DECODE_NEED_MORE
        DECODE_TOO_LONG
        DECODE_UNDEFINED

    enum:
        FORM_NONE
        FORM_RM
        FORM_R
        FORM_RM_R
        FORM_R_RM
        FORM_RM_I
        FORM_RM_CL
        FORM_R_RM_I
        FORM_RM_R_I
        FORM_RM_R_CL
        FORM_I
        FORM_I_I
        FORM_REL

    enum:
        PREFIX_LOCK
        PREFIX_REP
        PREFIX_REPNE
        PREFIX_OPSIZE
        PREFIX_ADDRSIZE

    enum:
        REX_B
        REX_X
        REX_R
        REX_W

    ctypedef struct Insn:
        int64_t disp
        int64_t imm
        uint16_t imm2
        uint16_t row
        uint16_t family
        uint8_t cost
        uint8_t form
        uint8_t length
        uint8_t opsize
        uint8_t opsize2
        uint8_t addrsize
        uint8_t prefixes
        uint8_t rex
        uint8_t segment
        uint8_t cc
        uint8_t reg
        uint8_t rm
        uint8_t reg_offset
        uint8_t rm_offset
        uint8_t is_mem
        uint8_t base
        uint8_t index
        uint8_t scale
        uint8_t rip_relative

    enum:
        ROW_LOCK
        ROW_D64
        ROW_F64
        ROW_PROTECTED
        ROW_CPL0
        ROW_REX_W
        ROW_NO_REX_B
        ROW_NO_REX_W
        ROW_SIZED_COST
        ROW_MEM_READ
        ROW_MEM_WRITE
        ROW_ALIGNED
        ROW_SSE
        ROW_MMX
        ROW_X87
        ROW_X87_NO_WAIT
        ROW_CONDITION
        ROW_STRING
        ROW_NUMBERED
        ROW_ENDS_BLOCK
        ROW_STACK
        ROW_UNACCESSED
        ROW_LATE_ADDRESS
        ROW_LOCKED
        ROW_PURE
        ROW_COUNTED

    enum:
        ACCESS_READ
        ACCESS_WRITE

    enum:
        BANK_GENERAL
        BANK_XMM
        BANK_MMX
        BANK_COUNT

    ctypedef struct InsnRow:
        uint32_t flags_read
        uint32_t flags_written
        uint32_t flags_undefined
        uint32_t flags
        uint16_t family
        uint8_t modes
        uint8_t prefixes
        uint8_t modrm_mask
        uint8_t modrm_value
        uint8_t mods
        uint8_t form
        uint8_t width
        uint8_t width2
        uint8_t immediate
        uint8_t rm_source
        uint8_t reg_source
        uint8_t fixed_reg
        uint8_t rm_bank
        uint8_t reg_bank
        uint8_t rm_access
        uint8_t reg_access
        uint8_t reg_access_mem
        uint8_t xmm0_access
        uint16_t implicit_read
        uint16_t implicit_written
        uint16_t implicit_sized
        uint8_t x87_read
        uint8_t x87_written
        int8_t x87_push
        uint8_t cost
        uint8_t feature
