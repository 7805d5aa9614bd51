# cython: language_level=3
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from hvmx.core.translate.side_exits cimport side_exit_if
from hvmx.core.translate.registers cimport use_register
from hvmx.core.state.ops cimport ADDRESS_32, ADDRESS_BASE_32, ADDRESS_EA
from hvmx.core.translate.trace cimport *


cdef inline uint32_t use_or_none(Trace *t, uint8_t offset) noexcept nogil:
    return HOST_NONE if offset == 8 * REG_ZERO else use_register(t, offset >> 3)


cdef void offset_into(Trace *t, Op *op, uint32_t address, uint32_t to) noexcept nogil:
    """As address32() and the others of ops.pxd compute it."""
    cdef uint32_t base, index
    cdef uint32_t width = 32 if address == ADDRESS_32 or address == ADDRESS_BASE_32 else 64
    base = use_or_none(t, op.b)
    index = use_or_none(t, op.i)
    if base == HOST_NONE and index == HOST_NONE:
        emit_mov_i(&t.e, to, <uint64_t>op.disp if width == 64 else <uint32_t>op.disp)
    elif width == 64 and op.disp != <int32_t>op.disp:
        emit_mov_i(&t.e, to, <uint64_t>op.disp)
        if index != HOST_NONE:
            emit_lea(&t.e, 64, to, to, index, op.scale, 0)
        if base != HOST_NONE:
            emit_alu(&t.e, 64, ALU_ADD, to, base)
    else:
        emit_lea(&t.e, width, to, base, index, op.scale, <int32_t>op.disp)


cdef void linear_address(Trace *t, Op *op, uint32_t address) noexcept nogil:
    if address == ADDRESS_EA:
        emit_load(&t.e, 64, HOST_RAX, HOST_RDI, AT_EA)
    else:
        offset_into(t, op, address, HOST_RAX)


cdef void probe_tlb(Trace *t, Op *op, uint32_t bytes, int32_t right) noexcept nogil:
    """The look-up of hit_read() and hit_write() of mmu.pxd."""
    cdef Emitter *e = &t.e
    if not t.has_tlb:
        emit_load(e, 64, HOST_RBP, HOST_RDI, AT_TLB)
        t.has_tlb = True
    emit_mov(e, 64, HOST_RDX, HOST_RAX)
    emit_shift_i(e, 64, SHIFT_SHR, HOST_RDX, 6)
    emit_alu_i(e, 32, ALU_AND, HOST_RDX, (TLB_ENTRIES - 1) << 6)
    emit_alu(e, 64, ALU_ADD, HOST_RDX, HOST_RBP)
    emit_lea(e, 64, HOST_RCX, HOST_RAX, HOST_NONE, 0, <int32_t>bytes - 1)
    emit_alu_i(e, 64, ALU_AND, HOST_RCX, -4096)
    emit_alu_m(e, 64, ALU_CMP, HOST_RCX, HOST_RDX, right)
    side_exit_if(t, CC_NE, op)
    emit_load(e, 64, HOST_RCX, HOST_RDX, AT_ADDEND)


cdef void load_probed(Trace *t, uint32_t width, uint32_t to) noexcept nogil:
    emit_rm(&t.e, 64 if width == 64 else 32, 0x0fb6 if width == 8 else 0x0fb7 if width == 16 else 0x8b, to,
            HOST_RAX, HOST_RCX, 0, 0)


cdef void store_probed(Trace *t, uint32_t width, uint32_t source) noexcept nogil:
    emit_rm(&t.e, width, 0x88 if width == 8 else 0x89, source, HOST_RAX, HOST_RCX, 0, 0)
