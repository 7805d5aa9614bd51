# cython: language_level=3
"""Descriptors, and the instructions that load and store segment registers."""
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from hvmx.core.state.insn cimport FORM_R, FORM_R_RM, FORM_RM_R
from hvmx.core.memory.mmu cimport *
from hvmx.core.memory.segmentation cimport linear, update_mode
from hvmx.core.state.ops cimport *
from hvmx.core.execute.integer.stack cimport peek_stack
from hvmx.core.state.state cimport *


cdef bint within_limit(Segment *seg, uint64_t offset, uint32_t size) noexcept nogil:
    cdef uint64_t last = offset + size - 1
    if seg.access & (AR_S | 0xc) == (AR_S | 4):
        return offset > seg.limit and last <= (<uint64_t>0xffffffff if seg.access & AR_DB else 0xffff)
    return last <= seg.limit


cdef void set_from_descriptor(Segment *seg, uint32_t selector, uint64_t raw) noexcept nogil:
    cdef uint32_t limit = <uint32_t>((raw & 0xffff) | ((raw >> 32) & 0xf0000))
    seg.selector = <uint16_t>selector
    seg.base = ((raw >> 16) & 0xffffff) | ((raw >> 32) & <uint64_t>0xff000000)
    seg.access = descriptor_access(raw)
    seg.limit = (limit << 12) | 0xfff if seg.access & AR_G else limit


cdef void set_null(Segment *seg, uint32_t selector) noexcept nogil:
    seg.selector = <uint16_t>selector
    seg.base = 0
    seg.limit = 0
    seg.access = AR_UNUSABLE


cdef void set_v86(Segment *seg, uint32_t selector) noexcept nogil:
    seg.selector = <uint16_t>selector
    seg.base = <uint64_t>selector << 4
    seg.limit = 0xffff
    seg.access = 0xf3


# --- descriptor tables --------------------------------------------------------------------------------------------------
cdef bint descriptor_address(Cpu *cpu, uint32_t selector, uint32_t size, uint64_t *address) noexcept nogil:
    cdef uint64_t base = cpu.gdtr.base
    cdef uint32_t limit = cpu.gdtr.limit
    if selector & 4:
        if cpu.seg[SEG_LDTR].access & AR_UNUSABLE or not cpu.seg[SEG_LDTR].access & AR_P:
            return False
        base = cpu.seg[SEG_LDTR].base
        limit = cpu.seg[SEG_LDTR].limit
    if (selector & 0xfff8) + size - 1 > limit:
        return False
    address[0] = base + (selector & 0xfff8)
    return True


cdef bint fetch_descriptor(Cpu *cpu, Op *op, uint32_t selector, uint32_t vector, uint32_t ext,
                           uint64_t *raw) noexcept nogil:
    cdef uint64_t address = 0
    if not descriptor_address(cpu, selector, 8, &address):
        fault(cpu, op, vector, (selector & 0xfffc) | ext)
        return False
    raw[0] = system_load(cpu, op, address, 8)
    return cpu.fault == 0


cdef bint fetch_upper(Cpu *cpu, Op *op, uint32_t selector, uint32_t vector, uint32_t ext, uint64_t *upper) noexcept nogil:
    cdef uint64_t address = 0
    if not descriptor_address(cpu, selector, 16, &address):
        fault(cpu, op, vector, (selector & 0xfffc) | ext)
        return False
    upper[0] = system_load(cpu, op, address + 8, 8)
    if cpu.fault:
        return False
    if upper[0] & (<uint64_t>0x1f00 << 32):  # the type field of the upper half must be 0 (SDM vol. 3, 5.8.3.1)
        fault(cpu, op, vector, (selector & 0xfffc) | ext)
        return False
    upper[0] = <uint32_t>upper[0]
    return True


cdef bint mark_accessed(Cpu *cpu, Op *op, Segment *seg) noexcept nogil:
    """Mark a segment as accessed, after all checks and before it is loaded (SDM vol. 3, 3.4.5.1)."""
    cdef uint64_t address = 0
    if seg.access & (AR_ACCESSED | AR_UNUSABLE):
        return True
    seg.access |= AR_ACCESSED
    descriptor_address(cpu, seg.selector, 8, &address)
    system_store(cpu, op, address + 5, 1, seg.access & 0xff)
    return cpu.fault == 0


# --- segment registers ----------------------------------------------------------------------------------------------------
cdef bint check_stack_segment(Cpu *cpu, Op *op, uint32_t selector, uint32_t cpl, uint32_t vector, uint32_t ext,
                              uint64_t *raw) noexcept nogil:
    cdef uint32_t access
    if not selector & 0xfffc:
        fault(cpu, op, vector, ext)
        return False
    if not fetch_descriptor(cpu, op, selector, vector, ext, raw):
        return False
    access = descriptor_access(raw[0])
    if selector & 3 != cpl or not is_writable_data(access) or descriptor_dpl(raw[0]) != cpl:
        fault(cpu, op, vector, (selector & 0xfffc) | ext)
        return False
    if not access & AR_P:
        fault(cpu, op, VEC_SS, (selector & 0xfffc) | ext)
        return False
    return True


# In real-address mode only selector and base change: the limit and rights of before stay ("unreal mode").
cdef void load_real(Cpu *cpu, uint32_t segment, uint32_t selector) noexcept nogil:
    cdef Segment *seg = &cpu.seg[segment]
    if cpu.rflags & FL_VM:
        set_v86(seg, selector)
        return
    seg.selector = <uint16_t>selector
    seg.base = <uint64_t>selector << 4
    if seg.access & AR_UNUSABLE:
        seg.limit = 0xffff
    seg.access = (seg.access & (AR_DB | AR_G)) | 0x93


cdef bint load_protected(Cpu *cpu, Op *op, uint32_t segment, uint32_t selector, uint32_t vector,
                         uint32_t ext) noexcept nogil:
    cdef uint64_t raw = 0
    cdef uint32_t access, dpl
    cdef Segment loaded
    if not selector & 0xfffc:
        if segment == SEG_SS:
            # 64-bit mode allows it below CPL 3 (SDM vol. 3, 5.4.1.1).
            if cpu.mode & MODE_WIDTH != MODE_64 or cpu.cpl == 3 or selector & 3 != cpu.cpl:
                fault(cpu, op, vector, ext)
                return False
            set_null(&cpu.seg[SEG_SS], selector)
            cpu.seg[SEG_SS].access |= <uint32_t>cpu.cpl << 5
            return True
        set_null(&cpu.seg[segment], selector)
        return True
    if segment == SEG_SS:
        if not check_stack_segment(cpu, op, selector, cpu.cpl, vector, ext, &raw):
            return False
    else:
        if not fetch_descriptor(cpu, op, selector, vector, ext, &raw):
            return False
        access = descriptor_access(raw)
        dpl = descriptor_dpl(raw)
        if (not access & AR_S or access & 0xa == 8
                or not (is_code(access) and is_conforming(access)) and (selector & 3 > dpl or cpu.cpl > dpl)):
            fault(cpu, op, vector, (selector & 0xfffc) | ext)
            return False
        if not access & AR_P:
            fault(cpu, op, VEC_NP, (selector & 0xfffc) | ext)
            return False
    set_from_descriptor(&loaded, selector, raw)
    if not mark_accessed(cpu, op, &loaded):
        return False
    cpu.seg[segment] = loaded
    return True


cdef bint load_segment(Cpu *cpu, Op *op, uint32_t segment, uint32_t selector) noexcept nogil:
    if real_or_v86(cpu):
        load_real(cpu, segment, selector)
    elif not load_protected(cpu, op, segment, selector, VEC_GP, 0):
        return False
    update_mode(cpu)
    return True


cdef uint32_t[4] DATA_SEGMENTS = [SEG_ES, SEG_DS, SEG_FS, SEG_GS]


# Only the selectors become null. The bases stay, even that of GS, which is the kernel's (SDM vol. 2, IRET: return to
# an outer privilege level).
cdef void drop_inner_segments(Cpu *cpu) noexcept nogil:
    cdef uint32_t index
    cdef Segment *seg
    for index in range(4):
        seg = &cpu.seg[DATA_SEGMENTS[index]]
        if seg.access & AR_UNUSABLE:
            seg.selector = 0
        elif (seg.access >> 5) & 3 < cpu.cpl and not (is_code(seg.access) and is_conforming(seg.access)):
            seg.selector = 0
            seg.limit = 0
            seg.access = AR_UNUSABLE


# --- MOV, POP, LDS and the like -------------------------------------------------------------------------------------------
# MOV SS and POP SS block interrupts and debug traps until the next instruction has ended (SDM vol. 3, 6.8.3).
cdef inline void finish_load(Cpu *cpu, Op *op, uint32_t segment) noexcept nogil:
    if segment == SEG_SS:
        cpu.shadow = SHADOW_MOV_SS
    leave(cpu, op)


cdef void mov_to_sreg_r(Cpu *cpu, Op *op) noexcept nogil:
    if load_segment(cpu, op, op.d, reg16(cpu, op.s)[0]):
        finish_load(cpu, op, op.d)


cdef void mov_to_sreg_m(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint32_t selector = load16(cpu, op, cpu.ea)
    if cpu.fault == 0 and load_segment(cpu, op, op.d, selector):
        finish_load(cpu, op, op.d)


cdef void mov_from_sreg_r(Cpu *cpu, Op *op) noexcept nogil:
    store_selector(cpu, op, cpu.seg[op.s].selector)
    leave(cpu, op)


cdef void mov_from_sreg_m(Cpu *cpu, Op *op) noexcept nogil:
    store16(cpu, op, cpu.ea, cpu.seg[op.s].selector)
    if cpu.fault == 0:
        leave(cpu, op)


cdef inline void store_selector(Cpu *cpu, Op *op, uint16_t selector) noexcept nogil:
    """Store a selector in a register: zero-extended to the operand size."""
    if operand_size(op) == SIZE_16:
        set16(cpu, op.d, selector)
    else:
        set64(cpu, op.d, selector)


# Only two bytes are read, whatever the width of the slot.
cdef void pop_sreg(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint32_t width = operand_bits(op)
    cdef uint32_t selector = <uint16_t>peek_stack(cpu, op, 16)
    cdef uint32_t stack32 = cpu.mode & MODE_STACK32  # POP SS increments the pointer by the width of the old stack
    if cpu.fault:
        return
    if load_segment(cpu, op, op.d, selector):
        if cpu.mode & MODE_WIDTH == MODE_64:
            cpu.r[REG_RSP] += width // 8
        elif stack32:
            set32(cpu, 8 * REG_RSP, <uint32_t>(cpu.r[REG_RSP] + width // 8))
        else:
            set16(cpu, 8 * REG_RSP, <uint16_t>(cpu.r[REG_RSP] + width // 8))
        finish_load(cpu, op, op.d)


cdef bint read_far_pointer(Cpu *cpu, Op *op, uint32_t *selector, uint64_t *offset) noexcept nogil:
    cdef uint32_t size = operand_bytes(op)
    cdef uint64_t at
    if size == 2:
        offset[0] = load16(cpu, op, cpu.ea)
    elif size == 4:
        offset[0] = load32(cpu, op, cpu.ea)
    else:
        offset[0] = load64(cpu, op, cpu.ea)
    if cpu.fault:
        return False
    at = linear(cpu, op, op.seg, cpu.ea_offset + size, 2, False)
    if cpu.fault:
        return False
    selector[0] = load16(cpu, op, at)
    return cpu.fault == 0


# LES, LDS, LSS, LFS, LGS.
cdef void load_far_pointer(Cpu *cpu, Op *op, uint32_t segment) noexcept nogil:
    cdef uint32_t selector = 0
    cdef uint64_t offset = 0
    if not read_far_pointer(cpu, op, &selector, &offset) or not load_segment(cpu, op, segment, selector):
        return
    if operand_size(op) == SIZE_16:
        set16(cpu, op.d, <uint16_t>offset)
    else:
        set64(cpu, op.d, offset)
    leave(cpu, op)


cdef void les(Cpu *cpu, Op *op) noexcept nogil:
    load_far_pointer(cpu, op, SEG_ES)


cdef void lss(Cpu *cpu, Op *op) noexcept nogil:
    load_far_pointer(cpu, op, SEG_SS)


cdef void lds(Cpu *cpu, Op *op) noexcept nogil:
    load_far_pointer(cpu, op, SEG_DS)


cdef void lfs(Cpu *cpu, Op *op) noexcept nogil:
    load_far_pointer(cpu, op, SEG_FS)


cdef void lgs(Cpu *cpu, Op *op) noexcept nogil:
    load_far_pointer(cpu, op, SEG_GS)


register_handler("mov_to_sreg", FORM_R_RM, 0, ADDRESS_NONE, mov_to_sreg_r)
register_handler("mov_to_sreg", FORM_R_RM, 0, ADDRESS_EA, mov_to_sreg_m)
register_handler("mov_from_sreg", FORM_RM_R, 0, ADDRESS_NONE, mov_from_sreg_r)
register_handler("mov_from_sreg", FORM_RM_R, 0, ADDRESS_EA, mov_from_sreg_m)
register_handler("pop_sreg", FORM_R, 0, ADDRESS_NONE, pop_sreg)
register_handler("les", FORM_R_RM, 0, ADDRESS_EA, les)
register_handler("lss", FORM_R_RM, 0, ADDRESS_EA, lss)
register_handler("lds", FORM_R_RM, 0, ADDRESS_EA, lds)
register_handler("lfs", FORM_R_RM, 0, ADDRESS_EA, lfs)
register_handler("lgs", FORM_R_RM, 0, ADDRESS_EA, lgs)
