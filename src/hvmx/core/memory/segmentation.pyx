# cython: language_level=3
from libc.stdint cimport int64_t, uint32_t, uint64_t

from hvmx.core.memory.codecache cimport flush_jumps
from hvmx.core.memory.mmu cimport kind_of
from hvmx.core.state.ops cimport fault
from hvmx.core.state.state cimport *


cdef uint64_t linear(Cpu *cpu, Op *op, uint32_t segment, uint64_t offset, uint32_t size, bint write) noexcept nogil:
    cdef Segment *seg = &cpu.seg[segment]
    cdef uint64_t address, last, top
    cdef uint32_t vector = VEC_SS if segment == SEG_SS else VEC_GP
    if cpu.mode & MODE_WIDTH == MODE_64:
        address = offset + (seg.base if segment >= SEG_FS else 0)
        last = address + size - 1 if size else address
        if <uint64_t>(<int64_t>(address << 16) >> 16) != address or <uint64_t>(<int64_t>(last << 16) >> 16) != last:
            fault(cpu, op, vector, 0)
        return address
    offset = <uint32_t>offset
    if seg.access & AR_UNUSABLE:
        fault(cpu, op, vector, 0)
        return 0
    if cpu.cr0 & CR0_PE and not cpu.rflags & FL_VM:
        if seg.access & 8:  # code: never writable, readable if bit 1
            if write or not seg.access & 2:
                fault(cpu, op, vector, 0)
                return 0
        elif write and not seg.access & 2:
            fault(cpu, op, vector, 0)
            return 0
    last = offset + size - 1
    if seg.access & 0xc == 4:  # data, expand-down (SDM vol. 3, 5.3)
        top = <uint64_t>0xffffffff if seg.access & AR_DB else 0xffff
        if offset <= seg.limit or last > top:
            fault(cpu, op, vector, 0)
            return 0
    elif last > seg.limit and seg.limit != <uint32_t>0xffffffff:
        fault(cpu, op, vector, 0)
        return 0
    return <uint32_t>(seg.base + offset)


cdef inline bint flat(Segment *seg) noexcept nogil:
    """A segment whose checks and base can be left out: writable, expand-up data over all of 4 GiB."""
    return seg.base == 0 and seg.limit == <uint32_t>0xffffffff and seg.access & (AR_UNUSABLE | 0xe) == 2


cdef uint32_t code_segment_id(Cpu *cpu) noexcept nogil:
    cdef Segment *cs = &cpu.seg[SEG_CS]
    cdef uint32_t index = cpu.mode >> MODE_CS_ID_SHIFT
    if index < cpu.cs_count and cpu.cs_base[index] == cs.base and cpu.cs_limit[index] == cs.limit:
        return index  # mostly it has not changed
    for index in range(cpu.cs_count):
        if cpu.cs_base[index] == cs.base and cpu.cs_limit[index] == cs.limit:
            return index
    if cpu.cs_count == MODE_CS_IDS:
        # All numbers are in use: drop all blocks, and give them out again from 1 on. 0 is the flat one.
        cpu.pending |= PEND_FLUSH
        flush_jumps(cpu)
        cpu.cs_count = 1
    cpu.cs_base[cpu.cs_count] = cs.base
    cpu.cs_limit[cpu.cs_count] = cs.limit
    cpu.cs_count += 1
    return cpu.cs_count - 1


cdef void update_mode(Cpu *cpu) noexcept nogil:
    cdef uint32_t mode
    cdef Segment *cs = &cpu.seg[SEG_CS]
    if cpu.efer & EFER_LMA and cs.access & AR_L:
        mode = MODE_64 | MODE_STACK32 | MODE_FLAT_DS | MODE_FLAT_ES | MODE_FLAT_SS
    else:
        mode = MODE_32 if cs.access & AR_DB else MODE_16
        if cpu.seg[SEG_SS].access & AR_DB:
            mode |= MODE_STACK32
        if flat(&cpu.seg[SEG_DS]):
            mode |= MODE_FLAT_DS
        if flat(&cpu.seg[SEG_ES]):
            mode |= MODE_FLAT_ES
        if flat(&cpu.seg[SEG_SS]):
            mode |= MODE_FLAT_SS
        mode |= code_segment_id(cpu) << MODE_CS_ID_SHIFT
    cpu.mode = mode
    # In the jump cache, this bit keeps ring 3 from finding code that only rings 0 to 2 may execute.
    cpu.mode_key = <uint64_t>(mode | (MODE_USER if cpu.cpl == 3 else 0)) << 48
    cpu.resume = cpu.string_op = NULL
    cpu.tlb_kind = kind_of(cpu, cpu.cpl)
    cpu.tlb = cpu.tlbs[cpu.tlb_kind]
