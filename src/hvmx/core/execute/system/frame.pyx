# cython: language_level=3
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from hvmx.core.memory.mmu cimport *
from hvmx.core.state.ops cimport *
from hvmx.core.execute.system.segment cimport *
from hvmx.core.state.state cimport *


cdef void current_frame(Cpu *cpu, Frame *frame) noexcept nogil:
    frame.ss = cpu.seg[SEG_SS]
    frame.pointer = cpu.r[REG_RSP]
    frame.cpl = cpu.cpl
    frame.error = 0
    frame.long_mode = cpu.mode & MODE_WIDTH == MODE_64


cdef void frame_move(Frame *frame, int64_t offset) noexcept nogil:
    cdef uint64_t pointer = frame.pointer + <uint64_t>offset
    if frame.long_mode:
        frame.pointer = pointer
    elif frame.ss.access & AR_DB:
        frame.pointer = <uint32_t>pointer
    else:
        frame.pointer = (frame.pointer & ~<uint64_t>0xffff) | (pointer & 0xffff)


cdef bint frame_address(Cpu *cpu, Op *op, Frame *frame, uint64_t pointer, uint32_t size, uint64_t *address) noexcept nogil:
    if frame.long_mode:
        if not canonical(pointer) or not canonical(pointer + size - 1):
            fault(cpu, op, VEC_SS, frame.error)
            return False
        address[0] = pointer
        return True
    pointer &= <uint64_t>0xffffffff if frame.ss.access & AR_DB else 0xffff
    if frame.ss.access & AR_UNUSABLE or not within_limit(&frame.ss, pointer, size):
        fault(cpu, op, VEC_SS, frame.error)
        return False
    address[0] = <uint32_t>(frame.ss.base + pointer)
    return True


cdef bint frame_push(Cpu *cpu, Op *op, Frame *frame, uint32_t size, uint64_t value) noexcept nogil:
    cdef uint64_t address = 0
    cdef uint64_t before = frame.pointer
    frame_move(frame, -<int64_t>size)
    if not frame_address(cpu, op, frame, frame.pointer, size, &address):
        frame.pointer = before
        return False
    store_as(cpu, op, frame.cpl, address, size, value)
    return cpu.fault == 0


cdef bint frame_pop(Cpu *cpu, Op *op, Frame *frame, uint32_t size, uint64_t *value) noexcept nogil:
    cdef uint64_t address = 0
    if not frame_address(cpu, op, frame, frame.pointer, size, &address):
        return False
    value[0] = load_as(cpu, op, frame.cpl, address, size)
    if cpu.fault:
        return False
    frame_move(frame, size)
    return True


cdef bint inner_frame(Cpu *cpu, Op *op, uint32_t cpl, uint32_t ext, Frame *frame) noexcept nogil:
    cdef Segment *tr = &cpu.seg[SEG_TR]
    cdef uint32_t size = 4 if tr.access & TYPE_32 else 2
    cdef uint32_t slot = size * (1 + 2 * cpl)
    cdef uint32_t selector
    cdef uint64_t raw = 0
    if slot + size + 1 > tr.limit:
        fault(cpu, op, VEC_TS, (tr.selector & 0xfffc) | ext)
        return False
    frame.pointer = system_load(cpu, op, tr.base + slot, size)
    if cpu.fault:
        return False
    selector = <uint16_t>system_load(cpu, op, tr.base + slot + size, 2)
    if cpu.fault or not check_stack_segment(cpu, op, selector, cpl, VEC_TS, ext, &raw):
        return False
    set_from_descriptor(&frame.ss, selector, raw)
    frame.cpl = cpl
    frame.error = (selector & 0xfffc) | ext
    frame.long_mode = False
    return True


cdef bint inner_frame64(Cpu *cpu, Op *op, uint32_t cpl, uint32_t slot, uint32_t ext, Frame *frame) noexcept nogil:
    cdef Segment *tr = &cpu.seg[SEG_TR]
    if slot + 7 > tr.limit:
        fault(cpu, op, VEC_TS, (tr.selector & 0xfffc) | ext)
        return False
    frame.pointer = system_load(cpu, op, tr.base + slot, 8)
    if cpu.fault:
        return False
    if not canonical(frame.pointer):
        fault(cpu, op, VEC_SS, ext)
        return False
    frame.cpl = cpl
    frame.error = ext
    frame.long_mode = True
    frame.ss = cpu.seg[SEG_SS]
    if cpl != cpu.cpl:
        set_null(&frame.ss, cpl)
        frame.ss.access |= cpl << 5
    return True
