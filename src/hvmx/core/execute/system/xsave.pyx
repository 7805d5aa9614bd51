# cython: language_level=3
"""Images of the x87 and SSE state in memory: FXSAVE (SDM vol. 1, 10.5), and the XSAVE feature set (chapter 13).

An XSAVE area begins with the legacy region, which is an FXSAVE image; the header follows. The state components are the
x87 (bit 0 of XCR0) and SSE (bit 1), both in the legacy region; the only format is the standard one. XSAVEOPT uses the
init optimization, but not the modified optimization.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from hvmx.core.state.insn cimport FORM_NONE, FORM_RM
from hvmx.core.exit.door cimport describe_exit, instruction_exit
from hvmx.core.memory.mmu cimport *
from hvmx.core.memory.segmentation cimport linear
from hvmx.core.state.mxcsr cimport settle_mxcsr
from hvmx.core.state.ops cimport *
from hvmx.core.state.state cimport *
from hvmx.core.execute.x87.x87 cimport *

cdef enum:
    LEGACY_BYTES = 512
    XSAVE_BYTES = 576         # the legacy region and the header
    COMPONENT_X87 = 1
    COMPONENT_SSE = 2
    MXCSR_INITIAL = 0x1f80
    FCW_INITIAL = 0x37f
    # Quadwords of the image.
    X87_CONTROL = 0           # FCW FSW FTW FOP, FIP, FDP
    MXCSR_AND_MASK = 3
    X87_REGISTERS = 4
    XMM_REGISTERS = 20
    XSTATE_BV = 64
    XCOMP_BV = 65
    HEADER_RESERVED = 66      # the first 8 of the bytes that must be 0


# --- the image ------------------------------------------------------------------------------------------------------------
cdef inline uint32_t xmm_saved(Cpu *cpu) noexcept nogil:
    """The number of XMM registers: 16 in 64-bit mode, else 8."""
    return 16 if cpu.mode & MODE_WIDTH == MODE_64 else 8


cdef inline uint32_t xmm_end(Cpu *cpu) noexcept nogil:
    return XMM_REGISTERS + 2 * xmm_saved(cpu)


cdef uint8_t abridged_tags(uint16_t tags) noexcept nogil:
    cdef uint32_t index
    cdef uint8_t result = 0
    for index in range(8):
        if (tags >> (2 * index)) & 3 != 3:
            result |= 1 << index
    return result


cdef void fill_image(Cpu *cpu, Op *op, uint64_t *image) noexcept nogil:
    cdef uint8_t *bytes = <uint8_t *>image
    cdef uint32_t index
    cdef bint wide = operand_size(op) == SIZE_64
    settle_mxcsr(cpu)
    memset(image, 0, LEGACY_BYTES)
    image[0] = <uint64_t>cpu.fcw | <uint64_t>cpu.fsw << 16 | <uint64_t>abridged_tags(cpu.ftw) << 32 | <uint64_t>cpu.fop << 48
    image[1] = cpu.fip if wide else <uint32_t>cpu.fip | <uint64_t>cpu.fcs << 32
    image[2] = cpu.fdp if wide else <uint32_t>cpu.fdp | <uint64_t>cpu.fds << 32
    image[MXCSR_AND_MASK] = cpu.mxcsr | <uint64_t>cpu.mxcsr_mask << 32
    for index in range(8):
        memcpy(bytes + 32 + 16 * index, st(cpu, index), 10)
    memcpy(bytes + 8 * XMM_REGISTERS, cpu.xmm, 16 * xmm_saved(cpu))


cdef inline uint64_t linear_bits(uint64_t pointer) noexcept nogil:
    """The part of a pointer that the x87 keeps: the 48 bits of linear addresses, sign-extended."""
    return <uint64_t>(<int64_t>(pointer << 16) >> 16)


cdef void take_x87(Cpu *cpu, Op *op, const uint64_t *image) noexcept nogil:
    cdef const uint8_t *bytes = <const uint8_t *>image
    cdef uint32_t index
    cpu.fcw = (<uint16_t>image[0] & 0x1f3f) | 0x40
    cpu.fsw = <uint16_t>(image[0] >> 16)
    cpu.ftw = 0
    for index in range(8):
        if not (image[0] >> (32 + index)) & 1:
            cpu.ftw |= <uint16_t>(<uint32_t>3 << (2 * index))
    cpu.fop = (image[0] >> 48) & 0x7ff
    if operand_size(op) == SIZE_64:
        cpu.fip = linear_bits(image[1])
        cpu.fdp = linear_bits(image[2])
        cpu.fcs = cpu.fds = 0
    else:
        cpu.fip = <uint32_t>image[1]
        cpu.fcs = <uint16_t>(image[1] >> 32)
        cpu.fdp = <uint32_t>image[2]
        cpu.fds = <uint16_t>(image[2] >> 32)
    update_summary(cpu)
    for index in range(8):
        memcpy(st(cpu, index), bytes + 32 + 16 * index, 10)


cdef void take_xmm(Cpu *cpu, const uint64_t *image) noexcept nogil:
    memcpy(cpu.xmm, image + XMM_REGISTERS, 16 * xmm_saved(cpu))


cdef bint load_image(Cpu *cpu, Op *op, uint64_t address, uint64_t *image, uint32_t first, uint32_t end) noexcept nogil:
    """Quadwords `first` to `end` of the image."""
    cdef uint32_t index
    for index in range(first, end):
        image[index] = load64(cpu, op, address + 8 * index)
        if cpu.fault:
            return False
    return True


cdef bint store_image(Cpu *cpu, Op *op, uint64_t address, const uint64_t *image, uint32_t first,
                      uint32_t end) noexcept nogil:
    cdef uint32_t index
    for index in range(first, end):
        store64(cpu, op, address + 8 * index, image[index])
        if cpu.fault:
            return False
    return True


cdef bint unit_taken(Cpu *cpu, Op *op) noexcept nogil:
    if cpu.cr0 & CR0_TS:
        fault(cpu, op, VEC_NM, 0)
        return True
    return False


cdef uint64_t area(Cpu *cpu, Op *op, uint32_t size, uint32_t alignment, bint write) noexcept nogil:
    """The linear address of the operand. Checks, in this order: the start is within the segment, and aligned; the rest
    is within the segment; and all is mapped, beginning with the last byte."""
    cdef bint long_mode = cpu.mode & MODE_WIDTH == MODE_64
    cdef uint64_t base = 0 if long_mode and op.seg < SEG_FS else cpu.seg[op.seg].base
    cdef uint64_t address
    linear(cpu, op, op.seg, cpu.ea_offset, 1 if long_mode else 4, write)
    if cpu.fault:
        return 0
    if (cpu.ea_offset + base) & (alignment - 1):
        fault(cpu, op, VEC_GP, 0)
        return 0
    address = linear(cpu, op, op.seg, cpu.ea_offset, size, write)
    if cpu.fault:
        return 0
    if write:
        if probe_write(cpu, op, address + size - 1, 1):
            probe_write(cpu, op, address, 1)
    elif probe_read(cpu, op, address + size - 1, 1):
        probe_read(cpu, op, address, 1)
    return address


# --- FXSAVE and FXRSTOR ---------------------------------------------------------------------------------------------------
cdef uint64_t fx_area(Cpu *cpu, Op *op, bint write) noexcept nogil:
    if cpu.cr0 & CR0_EM:
        fault(cpu, op, VEC_UD, 0)
        return 0
    if unit_taken(cpu, op):
        return 0
    return area(cpu, op, LEGACY_BYTES, 16, write)


cdef void fxsave(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint64_t image[64]
    cdef uint64_t address = fx_area(cpu, op, True)
    if cpu.fault:
        return
    fill_image(cpu, op, image)
    if store_image(cpu, op, address, image, 0, xmm_end(cpu)):
        leave(cpu, op)


cdef void fxrstor(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint64_t image[64]
    cdef uint64_t address = fx_area(cpu, op, False)
    if cpu.fault or not load_image(cpu, op, address, image, 0, XMM_REGISTERS + 32):
        return
    if <uint32_t>image[MXCSR_AND_MASK] & ~cpu.mxcsr_mask:
        fault(cpu, op, VEC_GP, 0)
        return
    take_x87(cpu, op, image)
    settle_mxcsr(cpu)
    cpu.mxcsr = <uint32_t>image[MXCSR_AND_MASK]
    take_xmm(cpu, image)
    leave(cpu, op)


# --- XSAVE, XSAVEOPT, XRSTOR ----------------------------------------------------------------------------------------------
cdef inline uint64_t requested(Cpu *cpu) noexcept nogil:
    """RFBM, the requested-feature bitmap."""
    return (<uint32_t>cpu.r[REG_RAX] | cpu.r[REG_RDX] << 32) & cpu.xcr0


cdef bint x87_registers_zero(Cpu *cpu) noexcept nogil:
    cdef const uint64_t *quadwords = <uint64_t *>cpu.fpr
    cdef uint32_t index
    for index in range(8):
        if quadwords[2 * index] or <uint16_t>quadwords[2 * index + 1]:
            return False
    return True


cdef bint xmm_zero(Cpu *cpu) noexcept nogil:
    cdef const uint64_t *quadwords = <uint64_t *>cpu.xmm
    cdef uint32_t index
    for index in range(2 * xmm_saved(cpu)):
        if quadwords[index]:
            return False
    return True


cdef uint64_t in_use(Cpu *cpu) noexcept nogil:
    """XINUSE: the components that are not in their initial configuration (SDM vol. 1, 13.6); MXCSR does not count."""
    cdef uint64_t result = 0
    if (cpu.fcw != FCW_INITIAL or cpu.fsw or cpu.ftw != 0xffff or cpu.fop or cpu.fip or cpu.fdp or cpu.fcs or cpu.fds
            or not x87_registers_zero(cpu)):
        result |= COMPONENT_X87
    if not xmm_zero(cpu):
        result |= COMPONENT_SSE
    return result


cdef bint xsave_enabled(Cpu *cpu, Op *op) noexcept nogil:
    if not cpu.cr4 & CR4_OSXSAVE:
        fault(cpu, op, VEC_UD, 0)
        return False
    return True


cdef uint64_t xsave_area(Cpu *cpu, Op *op, bint write) noexcept nogil:
    if not xsave_enabled(cpu, op) or unit_taken(cpu, op):
        return 0
    return area(cpu, op, XSAVE_BYTES, 64, write)


cdef void save(Cpu *cpu, Op *op, uint64_t saved, uint64_t used) noexcept nogil:
    """`saved`: the components to be saved, among those requested."""
    cdef uint64_t image[64]
    cdef uint64_t header
    cdef uint64_t address = xsave_area(cpu, op, True)
    if cpu.fault:
        return
    header = load64(cpu, op, address + 8 * XSTATE_BV)
    if cpu.fault:
        return
    fill_image(cpu, op, image)
    if saved & COMPONENT_X87 and not (store_image(cpu, op, address, image, X87_CONTROL, MXCSR_AND_MASK)
                                      and store_image(cpu, op, address, image, X87_REGISTERS, XMM_REGISTERS)):
        return
    if saved & COMPONENT_SSE and not store_image(cpu, op, address, image, XMM_REGISTERS, xmm_end(cpu)):
        return
    if requested(cpu) & COMPONENT_SSE and not store_image(cpu, op, address, image, MXCSR_AND_MASK, X87_REGISTERS):
        return
    store64(cpu, op, address + 8 * XSTATE_BV, (header & ~requested(cpu)) | (used & requested(cpu)))
    if cpu.fault == 0:
        leave(cpu, op)


cdef void xsave(Cpu *cpu, Op *op) noexcept nogil:
    save(cpu, op, requested(cpu), in_use(cpu))


cdef void xsaveopt(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint64_t used = in_use(cpu)
    save(cpu, op, requested(cpu) & used, used)


cdef void xrstor(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint64_t image[67]
    cdef uint64_t wanted = requested(cpu)
    cdef uint64_t address = xsave_area(cpu, op, False)
    if cpu.fault or not load_image(cpu, op, address, image, XSTATE_BV, HEADER_RESERVED + 1):
        return
    if image[XSTATE_BV] & ~cpu.xcr0 or image[XCOMP_BV] or image[HEADER_RESERVED]:
        fault(cpu, op, VEC_GP, 0)
        return
    if not load_image(cpu, op, address, image, 0, XMM_REGISTERS + 32):
        return
    # MXCSR is loaded whenever SSE is requested, even if its registers are not in the image (SDM vol. 1, 13.8.1).
    if wanted & COMPONENT_SSE:
        if <uint32_t>image[MXCSR_AND_MASK] & ~cpu.mxcsr_mask:
            fault(cpu, op, VEC_GP, 0)
            return
        settle_mxcsr(cpu)
        cpu.mxcsr = <uint32_t>image[MXCSR_AND_MASK]
        if not image[XSTATE_BV] & COMPONENT_SSE:
            memset(image + XMM_REGISTERS, 0, 16 * xmm_saved(cpu))
        take_xmm(cpu, image)
    if wanted & COMPONENT_X87:
        if image[XSTATE_BV] & COMPONENT_X87:
            take_x87(cpu, op, image)
        else:
            reset_x87(cpu)
            memset(cpu.fpr, 0, sizeof(cpu.fpr))
    leave(cpu, op)


# --- XCR0 (SDM vol. 3, 2.6) -------------------------------------------------------------------------------------------------
cdef void xgetbv(Cpu *cpu, Op *op) noexcept nogil:
    if not xsave_enabled(cpu, op):
        return
    if <uint32_t>cpu.r[REG_RCX]:
        fault(cpu, op, VEC_GP, 0)
        return
    set32(cpu, 8 * REG_RAX, <uint32_t>cpu.xcr0)
    set32(cpu, 8 * REG_RDX, <uint32_t>(cpu.xcr0 >> 32))
    leave(cpu, op)


# It always exits (SDM vol. 3, 25.1.2): the handler checks the value, and writes XCR0.
cdef void xsetbv(Cpu *cpu, Op *op) noexcept nogil:
    if not xsave_enabled(cpu, op):
        return
    if cpu.cpl:
        fault(cpu, op, VEC_GP, 0)
        return
    describe_exit(cpu, <uint32_t>cpu.r[REG_RCX], <uint32_t>cpu.r[REG_RAX] | cpu.r[REG_RDX] << 32, 0, True, 0)
    instruction_exit(cpu, op, EXIT_REASON_XSETBV)


register_handler("fxsave", FORM_RM, 0, ADDRESS_EA, fxsave)
register_handler("fxrstor", FORM_RM, 0, ADDRESS_EA, fxrstor)
register_handler("xsave", FORM_RM, 0, ADDRESS_EA, xsave)
register_handler("xsaveopt", FORM_RM, 0, ADDRESS_EA, xsaveopt)
register_handler("xrstor", FORM_RM, 0, ADDRESS_EA, xrstor)
register_handler("xgetbv", FORM_NONE, 0, ADDRESS_NONE, xgetbv)
register_handler("xsetbv", FORM_NONE, 0, ADDRESS_NONE, xsetbv)
