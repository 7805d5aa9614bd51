# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.state.insn cimport *
from hvmx.core.memory.mmu cimport *
from hvmx.core.memory.segmentation cimport linear
from hvmx.core.execute.simd.mmx cimport mmx_usable
from hvmx.core.state.ops cimport *
from hvmx.core.execute.simd.sse cimport sse_usable
from hvmx.core.state.state cimport *
from hvmx.core.execute.x87.x87 cimport x87_ready, x87_usable


cdef void stale(Cpu *cpu, Op *op) noexcept nogil:
    rewind(cpu, op)


# The end of a block that does not end with a branch: on to the next instruction.
cdef void block_end(Cpu *cpu, Op *op) noexcept nogil:
    branch(cpu, op, op.ip)


# A direct jump whose target is decoded into the same block: nothing is left to do.
cdef void followed_jump(Cpu *cpu, Op *op) noexcept nogil:
    run_next(cpu, op)


cdef void undefined(Cpu *cpu, Op *op) noexcept nogil:
    fault(cpu, op, VEC_UD, 0)


cdef void too_long(Cpu *cpu, Op *op) noexcept nogil:
    fault(cpu, op, VEC_GP, 0)


# Before instructions that are privileged, or undefined outside of protected mode (ROW_CPL0, ROW_PROTECTED in imm).
cdef void guard(Cpu *cpu, Op *op) noexcept nogil:
    if guarded_flags(op) & ROW_PROTECTED and (not cpu.cr0 & CR0_PE or cpu.rflags & FL_VM):
        fault(cpu, op, VEC_UD, 0)
        return
    if guarded_flags(op) & ROW_CPL0 and cpu.cpl != 0:
        fault(cpu, op, VEC_GP, 0)
        return
    run_next(cpu, op)


# #UD, #NM and #MF come before faults of the operand's address, so these are checked in front of the address Op.
cdef void guard_x87(Cpu *cpu, Op *op) noexcept nogil:
    if x87_usable(cpu, op):
        run_next(cpu, op)


cdef void guard_x87_waiting(Cpu *cpu, Op *op) noexcept nogil:
    if x87_ready(cpu, op):
        run_next(cpu, op)


cdef void guard_mmx(Cpu *cpu, Op *op) noexcept nogil:
    if mmx_usable(cpu, op):
        run_next(cpu, op)


cdef void guard_sse(Cpu *cpu, Op *op) noexcept nogil:
    if sse_usable(cpu, op):
        run_next(cpu, op)


cdef void guard_sse_and_mmx(Cpu *cpu, Op *op) noexcept nogil:
    if sse_usable(cpu, op) and mmx_usable(cpu, op):
        run_next(cpu, op)


# Address Ops: leave the linear address of the memory operand in cpu.ea.
cdef void ea_flat32(Cpu *cpu, Op *op) noexcept nogil:
    cpu.ea_offset = address32(cpu, op)
    cpu.ea = cpu.ea_offset
    run_next(cpu, op)


cdef void ea_flat64(Cpu *cpu, Op *op) noexcept nogil:
    cpu.ea_offset = address64(cpu, op)
    cpu.ea = cpu.ea_offset
    run_next(cpu, op)


cdef inline uint64_t offset_of(Cpu *cpu, Op *op) noexcept nogil:
    return within_address_size(op, address64(cpu, op))


# The offset only, which the handler checks.
cdef void ea_offset(Cpu *cpu, Op *op) noexcept nogil:
    cpu.ea_offset = offset_of(cpu, op)
    run_next(cpu, op)


# Alignment is checked first.
cdef void ea_segment(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint64_t offset = offset_of(cpu, op)
    cpu.ea_offset = offset
    if access_must_be_aligned(op) and (offset + cpu.seg[op.seg].base) & 15:
        fault(cpu, op, VEC_GP, 0)
        return
    cpu.ea = linear(cpu, op, op.seg, offset, access_bytes(op), access_writes(op))
    if UNLIKELY(cpu.fault != 0):
        return
    run_next(cpu, op)


# The same for a flat segment with a base, with the mode's own address size, and without an alignment check.
cdef void ea_based32(Cpu *cpu, Op *op) noexcept nogil:
    cdef Segment *segment = &cpu.seg[op.seg]
    if LIKELY(segment.limit == <uint32_t>0xffffffff) and LIKELY(segment.access & (AR_UNUSABLE | 0xe) == 2):
        cpu.ea_offset = address32(cpu, op)
        cpu.ea = <uint32_t>(segment.base + cpu.ea_offset)
        run_next(cpu, op)
        return
    ea_segment(cpu, op)


cdef void ea_based64(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint64_t offset = address64(cpu, op)
    cdef uint64_t at = cpu.seg[op.seg].base + offset
    if LIKELY(not ((at + (<uint64_t>1 << 47)) | (at + access_bytes(op) + (<uint64_t>1 << 47))) >> 48):
        cpu.ea_offset = offset
        cpu.ea = at
        run_next(cpu, op)
        return
    ea_segment(cpu, op)
