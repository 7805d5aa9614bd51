# cython: language_level=3
"""x87 and SSE control state: what kernels use to find, initialise and switch the floating-point unit."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from hvmx.core.decode cimport FORM_NONE, FORM_RM
from hvmx.core.mmu cimport *
from hvmx.core.ops cimport *
from hvmx.core.state cimport *
from hvmx.core.x87 cimport *

cdef enum:
    FXSAVE_BYTES = 512
    FXSAVE_USED = 416         # what FXSAVE writes
    FSW_EXCEPTIONS = 0x80ff   # the flags that FNCLEX clears: B, ES, SF and the six exceptions


cdef bint sse_unavailable(Cpu *cpu, Op *op) noexcept nogil:
    if cpu.cr0 & CR0_EM or not cpu.cr4 & CR4_OSFXSR:
        fault(cpu, op, VEC_UD, 0)
        return True
    if cpu.cr0 & CR0_TS:
        fault(cpu, op, VEC_NM, 0)
        return True
    return False


cdef void fninit(Cpu *cpu, Op *op) noexcept nogil:
    if not x87_usable(cpu, op):
        return
    reset_x87(cpu)
    run_next(cpu, op)


cdef void fnclex(Cpu *cpu, Op *op) noexcept nogil:
    if not x87_usable(cpu, op):
        return
    cpu.fsw &= <uint16_t>~FSW_EXCEPTIONS
    run_next(cpu, op)


# What the 8087 and the 80287 had further controls for.
cdef void no_operation(Cpu *cpu, Op *op) noexcept nogil:
    if not x87_usable(cpu, op):
        return
    run_next(cpu, op)


cdef void fwait(Cpu *cpu, Op *op) noexcept nogil:
    if cpu.cr0 & (CR0_MP | CR0_TS) == (CR0_MP | CR0_TS):
        fault(cpu, op, VEC_NM, 0)
        return
    if exception_pending(cpu, op):
        return
    leave(cpu, op)


cdef void fnstsw_r(Cpu *cpu, Op *op) noexcept nogil:
    if not x87_usable(cpu, op):
        return
    set16(cpu, op.d, cpu.fsw)
    run_next(cpu, op)


cdef void store_word(Cpu *cpu, Op *op, uint16_t value) noexcept nogil:
    if not x87_usable(cpu, op):
        return
    store16(cpu, op, cpu.ea, value)
    if cpu.fault == 0:
        run_next(cpu, op)


cdef void fnstsw_m(Cpu *cpu, Op *op) noexcept nogil:
    store_word(cpu, op, cpu.fsw)


cdef void fnstcw(Cpu *cpu, Op *op) noexcept nogil:
    store_word(cpu, op, cpu.fcw)


cdef void fldcw(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint16_t value
    if not x87_ready(cpu, op):
        return
    value = load16(cpu, op, cpu.ea)
    if cpu.fault:
        return
    cpu.fcw = (value & 0x1f3f) | 0x40
    update_summary(cpu)
    run_next(cpu, op)


cdef void ldmxcsr(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint32_t value
    if sse_unavailable(cpu, op):
        return
    value = load32(cpu, op, cpu.ea)
    if cpu.fault:
        return
    if value & ~cpu.mxcsr_mask:
        fault(cpu, op, VEC_GP, 0)
        return
    cpu.mxcsr = value
    leave(cpu, op)


cdef void stmxcsr(Cpu *cpu, Op *op) noexcept nogil:
    if sse_unavailable(cpu, op):
        return
    store32(cpu, op, cpu.ea, cpu.mxcsr)
    if cpu.fault == 0:
        leave(cpu, op)


# --- FXSAVE and FXRSTOR (SDM vol. 1, 10.5) --------------------------------------------------------------------------------
cdef bint fx_image_usable(Cpu *cpu, Op *op, uint32_t size, bint write) noexcept nogil:
    """State available; the image aligned, within its segment and mapped: its last byte is looked at first."""
    cdef uint64_t address
    if cpu.cr0 & CR0_EM:
        fault(cpu, op, VEC_UD, 0)
        return False
    if cpu.cr0 & CR0_TS:
        fault(cpu, op, VEC_NM, 0)
        return False
    address = linear(cpu, op, op.seg, cpu.ea_offset, size, write)
    if cpu.fault:
        return False
    if address & 15:
        fault(cpu, op, VEC_GP, 0)
        return False
    if write:
        return probe_write(cpu, op, address + size - 1, 1) and probe_write(cpu, op, address, 1)
    return probe_read(cpu, op, address + size - 1, 1) and probe_read(cpu, op, address, 1)


cdef inline uint32_t xmm_saved(Cpu *cpu) noexcept nogil:
    """XMM registers in the image: 16 only in 64-bit mode."""
    return 16 if cpu.mode & MODE_WIDTH == MODE_64 else 8


cdef uint8_t abridged_tags(uint16_t tags) noexcept nogil:
    cdef uint32_t index
    cdef uint8_t result = 0
    for index in range(8):
        if (tags >> (2 * index)) & 3 != 3:
            result |= 1 << index
    return result


cdef void fxsave(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint64_t image[64]
    cdef uint8_t *bytes = <uint8_t *>image
    cdef uint64_t address = cpu.ea
    cdef uint32_t index, used = 160 + 16 * xmm_saved(cpu)
    cdef bint wide = op.x & 3 == 3
    if not fx_image_usable(cpu, op, FXSAVE_BYTES, True):
        return
    memset(image, 0, sizeof(image))
    image[0] = <uint64_t>cpu.fcw | <uint64_t>cpu.fsw << 16 | <uint64_t>abridged_tags(cpu.ftw) << 32 | <uint64_t>cpu.fop << 48
    image[1] = cpu.fip if wide else <uint32_t>cpu.fip | <uint64_t>cpu.fcs << 32
    image[2] = cpu.fdp if wide else <uint32_t>cpu.fdp | <uint64_t>cpu.fds << 32
    image[3] = cpu.mxcsr | <uint64_t>cpu.mxcsr_mask << 32
    for index in range(8):
        memcpy(bytes + 32 + 16 * index, st(cpu, index), 10)
    memcpy(bytes + 160, cpu.xmm, 16 * xmm_saved(cpu))
    for index in range(used // 8):
        store64(cpu, op, address + 8 * index, image[index])
        if cpu.fault:
            return
    leave(cpu, op)


cdef void fxrstor(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint64_t image[64]
    cdef uint8_t *bytes = <uint8_t *>image
    cdef uint64_t address = cpu.ea
    cdef uint32_t index
    if not fx_image_usable(cpu, op, FXSAVE_BYTES, False):
        return
    for index in range(FXSAVE_USED // 8):
        image[index] = load64(cpu, op, address + 8 * index)
        if cpu.fault:
            return
    if <uint32_t>image[3] & ~cpu.mxcsr_mask:
        fault(cpu, op, VEC_GP, 0)
        return
    cpu.fcw = (<uint16_t>image[0] & 0x1f3f) | 0x40
    cpu.fsw = <uint16_t>(image[0] >> 16)
    cpu.ftw = 0
    for index in range(8):
        if not (image[0] >> (32 + index)) & 1:
            cpu.ftw |= <uint16_t>(<uint32_t>3 << (2 * index))
    cpu.fop = (image[0] >> 48) & 0x7ff
    if op.x & 3 == 3:
        cpu.fip = image[1]
        cpu.fdp = image[2]
        cpu.fcs = cpu.fds = 0
    else:
        cpu.fip = <uint32_t>image[1]
        cpu.fcs = <uint16_t>(image[1] >> 32)
        cpu.fdp = <uint32_t>image[2]
        cpu.fds = <uint16_t>(image[2] >> 32)
    update_summary(cpu)
    cpu.mxcsr = <uint32_t>image[3]
    for index in range(8):
        memcpy(st(cpu, index), bytes + 32 + 16 * index, 10)
    memcpy(cpu.xmm, bytes + 160, 16 * xmm_saved(cpu))
    leave(cpu, op)


register_handler("fninit", FORM_NONE, 0, ADDRESS_NONE, fninit)
register_handler("fnclex", FORM_NONE, 0, ADDRESS_NONE, fnclex)
register_handler("fneni", FORM_NONE, 0, ADDRESS_NONE, no_operation)
register_handler("fndisi", FORM_NONE, 0, ADDRESS_NONE, no_operation)
register_handler("fnsetpm", FORM_NONE, 0, ADDRESS_NONE, no_operation)
register_handler("fwait", FORM_NONE, 0, ADDRESS_NONE, fwait)
register_handler("fnstsw", FORM_RM, 0, ADDRESS_NONE, fnstsw_r)
register_handler("fnstsw", FORM_RM, 0, ADDRESS_EA, fnstsw_m)
register_handler("fnstcw", FORM_RM, 0, ADDRESS_EA, fnstcw)
register_handler("fldcw", FORM_RM, 0, ADDRESS_EA, fldcw)
register_handler("ldmxcsr", FORM_RM, 0, ADDRESS_EA, ldmxcsr)
register_handler("stmxcsr", FORM_RM, 0, ADDRESS_EA, stmxcsr)
register_handler("fxsave", FORM_RM, 0, ADDRESS_EA, fxsave)
register_handler("fxrstor", FORM_RM, 0, ADDRESS_EA, fxrstor)
