# cython: language_level=3
"""The x87 register stack and its exceptions (SDM vol. 1, 8.1 and 8.5): what every x87 instruction is made of.

`Cpu.fpr` has the registers in physical order: ST(i) is register (TOP + i) mod 8. In `Cpu.ftw` the tag of a register is
3 if it is empty and else 0: FNSTENV and FNSAVE determine the kind of its value.
"""
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from hvmx.core.execute.x87.fpu cimport meet_exception
from hvmx.core.memory.mmu cimport probe_write, store16, store64
from hvmx.core.memory.segmentation cimport linear
from hvmx.core.state.ops cimport *
from hvmx.core.state.state cimport *

cdef enum:
    FSW_IE = 0x01
    FSW_DE = 0x02
    FSW_ZE = 0x04
    FSW_OE = 0x08
    FSW_UE = 0x10
    FSW_PE = 0x20
    FSW_SF = 0x40
    FSW_ES = 0x80
    FSW_C0 = 0x100
    FSW_C1 = 0x200
    FSW_C2 = 0x400
    FSW_C3 = 0x4000
    FSW_B = 0x8000
    FSW_TOP_SHIFT = 11
    FSW_FLAGS = 0x3f          # the six exceptions
    FSW_CODES = 0x4500        # C3, C2, C0: set by comparisons
    STACK_UNDERFLOW = FSW_IE | FSW_SF
    STACK_OVERFLOW = FSW_IE | FSW_SF | FSW_C1
    # Exceptions that prevent the result if they are unmasked (SDM vol. 1, 8.7): those detected before the operation;
    # for a result in memory also those detected after it. Loads of denormal operands are not prevented.
    BEFORE_LOAD = FSW_IE
    BEFORE_RESULT = FSW_IE | FSW_DE | FSW_ZE
    BEFORE_STORE = FSW_IE | FSW_DE | FSW_OE | FSW_UE

cdef extern from "x87_host.h" nogil:
    ctypedef struct X87Register:
        pass


cdef inline uint32_t st_number(uint32_t offset) noexcept nogil:
    """The i of ST(i), from Op.d or Op.s: a register's byte offset, as if it were a general register (0-15)."""
    return register_number(offset) & 7


cdef inline bint x87_usable(Cpu *cpu, Op *op) noexcept nogil:
    """False: CR0 has disabled the unit, and #NM has been raised."""
    if UNLIKELY(cpu.cr0 & (CR0_EM | CR0_TS)):
        fault(cpu, op, VEC_NM, 0)
        return False
    return True


cdef inline bint exception_pending(Cpu *cpu, Op *op) noexcept nogil:
    """Is there a pending exception of an earlier instruction, so that this one does not happen?"""
    return UNLIKELY(cpu.fsw & FSW_ES) and meet_exception(cpu, op)


cdef inline bint x87_ready(Cpu *cpu, Op *op) noexcept nogil:
    """The checks of a waiting instruction. False: #NM, or #MF for a pending exception, has been raised."""
    return x87_usable(cpu, op) and not exception_pending(cpu, op)


cdef inline uint32_t physical_register(Cpu *cpu, uint32_t i) noexcept nogil:
    return ((cpu.fsw >> FSW_TOP_SHIFT) + i) & 7


cdef inline void reset_x87(Cpu *cpu) noexcept nogil:
    """The state of FNINIT: the registers are empty, their contents remain."""
    cpu.fcw = 0x37f
    cpu.fsw = 0
    cpu.ftw = 0xffff
    cpu.fop = cpu.fcs = cpu.fds = 0
    cpu.fip = cpu.fdp = 0


cdef inline X87Register *st(Cpu *cpu, uint32_t i) noexcept nogil:
    return <X87Register *>&cpu.fpr[physical_register(cpu, i)]


cdef inline bint st_empty(Cpu *cpu, uint32_t i) noexcept nogil:
    return (cpu.ftw >> (2 * physical_register(cpu, i))) & 3 == 3


cdef inline void set_empty(Cpu *cpu, uint32_t i) noexcept nogil:
    cpu.ftw |= <uint16_t>(3 << (2 * physical_register(cpu, i)))


cdef inline void set_full(Cpu *cpu, uint32_t i) noexcept nogil:
    cpu.ftw &= <uint16_t>~(3 << (2 * physical_register(cpu, i)))


cdef inline void move_top(Cpu *cpu, int by) noexcept nogil:
    cpu.fsw = <uint16_t>((cpu.fsw & 0xc7ff) | (((cpu.fsw >> FSW_TOP_SHIFT) + by) & 7) << FSW_TOP_SHIFT)


cdef inline void pop(Cpu *cpu) noexcept nogil:
    set_empty(cpu, 0)
    move_top(cpu, 1)


cdef inline void push(Cpu *cpu) noexcept nogil:
    """Push: decrement TOP, and mark the new ST(0) as full."""
    move_top(cpu, -1)
    set_full(cpu, 0)


cdef inline void set_indefinite(Cpu *cpu, uint32_t i) noexcept nogil:
    """The QNaN floating-point indefinite, the result of a masked invalid operation (SDM vol. 1, table 4-3)."""
    cdef uint16_t *words = <uint16_t *>st(cpu, i)
    words[0] = words[1] = words[2] = 0
    words[3] = 0xc000
    words[4] = 0xffff
    set_full(cpu, i)


cdef inline uint32_t unmasked(Cpu *cpu, uint32_t status) noexcept nogil:
    return status & ~<uint32_t>cpu.fcw & FSW_FLAGS


cdef inline void update_summary(Cpu *cpu) noexcept nogil:
    """Update ES, and B with it: is an exception pending that is unmasked?"""
    if UNLIKELY(unmasked(cpu, cpu.fsw)):
        if not cpu.fsw & FSW_ES:
            cpu.ignne = 0
        cpu.fsw |= FSW_ES | FSW_B
    else:
        cpu.fsw &= <uint16_t>~(FSW_ES | FSW_B)


cdef inline void set_status(Cpu *cpu, uint32_t status, uint32_t codes) noexcept nogil:
    """Add the exceptions and the stack fault of `status`, and take over its C1 and the condition codes in `codes`."""
    cdef uint32_t fsw = cpu.fsw & ~(FSW_C1 | codes) | status & (FSW_FLAGS | FSW_SF | FSW_C1 | codes)
    if UNLIKELY(unmasked(cpu, fsw)):
        if not fsw & FSW_ES:
            cpu.ignne = 0
        fsw |= FSW_ES | FSW_B
    cpu.fsw = <uint16_t>fsw


cdef inline void set_last(Cpu *cpu, Op *op) noexcept nogil:
    """Set the pointers to the last non-control instruction (SDM vol. 1, 8.1.8); its opcode is in IMM_X87."""
    cpu.fip = op.ip
    cpu.fcs = cpu.seg[SEG_CS].selector
    cpu.fop = <uint16_t>op.imm


cdef inline void set_last_operand(Cpu *cpu, Op *op) noexcept nogil:
    set_last(cpu, op)
    cpu.fdp = cpu.ea_offset
    cpu.fds = cpu.seg[op.seg].selector


cdef inline uint64_t last_two_bytes(Cpu *cpu, Op *op, bint write) noexcept nogil:
    """The linear address of the last two bytes of an 80-bit operand, checked: processors check these after the first
    eight. Sets cpu.fault."""
    return linear(cpu, op, op.seg, cpu.ea_offset + 8, 2, write)


cdef inline uint64_t store_address(Cpu *cpu, Op *op, uint32_t size) noexcept nogil:
    """The linear address of a store, checked; sets cpu.fault. An unmasked exception prevents the store, and with it
    faults of its address: so it is checked here, after the operation."""
    return linear(cpu, op, op.seg, cpu.ea_offset, size, True)


cdef inline bint store80(Cpu *cpu, Op *op, uint64_t low, uint16_t high) noexcept nogil:
    """All ten bytes are checked before the first is written. False on a fault."""
    cdef uint64_t end, at = store_address(cpu, op, 8)
    if cpu.fault or not probe_write(cpu, op, at, 8):
        return False
    end = last_two_bytes(cpu, op, True)
    if cpu.fault or not probe_write(cpu, op, end, 2):
        return False
    store64(cpu, op, at, low)
    if cpu.fault:
        return False
    store16(cpu, op, end, high)
    return not cpu.fault


cdef inline bint underflow(Cpu *cpu, uint32_t destination) noexcept nogil:
    """Stack underflow, of a read. True: it is masked, and `destination` is now the indefinite."""
    set_status(cpu, STACK_UNDERFLOW, 0)
    if unmasked(cpu, FSW_IE):
        return False
    set_indefinite(cpu, destination)
    return True


cdef inline void overflow(Cpu *cpu) noexcept nogil:
    """Stack overflow, of a push. If it is masked, the new ST(0) is the indefinite."""
    set_status(cpu, STACK_OVERFLOW, 0)
    if not unmasked(cpu, FSW_IE):
        push(cpu)
        set_indefinite(cpu, 0)
