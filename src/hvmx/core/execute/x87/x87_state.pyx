# cython: language_level=3
"""FNSTENV, FLDENV, FNSAVE, FRSTOR: the x87 state in memory, in its four layouts (SDM vol. 1, 8.1.10)."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from hvmx.core.state.insn cimport FORM_RM
from hvmx.core.memory.mmu cimport *
from hvmx.core.memory.segmentation cimport linear
from hvmx.core.state.ops cimport *
from hvmx.core.state.state cimport *
from hvmx.core.execute.x87.x87 cimport *

cdef enum:
    WORDS = 7                 # control, status, tags, and two pointers of two words each
    REGISTER_BYTES = 80
    IMAGE_BYTES = 4 * WORDS + REGISTER_BYTES


cdef inline uint32_t word_bytes(Op *op) noexcept nogil:
    """Layouts of 16 or 32 bits, by the operand size; 64 counts as 32."""
    return 2 if operand_size(op) == SIZE_16 else 4


cdef inline bint real_layout(Cpu *cpu) noexcept nogil:
    """Real-mode layout: pointers are linear addresses, not selector and offset."""
    return not cpu.cr0 & CR0_PE or cpu.rflags & FL_VM


cdef uint32_t tag_word(Cpu *cpu) noexcept nogil:
    """0 valid, 1 zero, 2 special, 3 empty, for each register (SDM vol. 1, 8.1.7)."""
    cdef uint32_t number, exponent, tag, tags = 0
    cdef uint64_t significand
    for number in range(8):
        significand = (<uint64_t *>cpu.fpr[number])[0]
        exponent = (<uint16_t *>cpu.fpr[number])[4] & 0x7fff
        tag = (cpu.ftw >> (2 * number)) & 3
        if tag != 3:
            if exponent == 0 and significand == 0:
                tag = 1
            elif exponent == 0 or exponent == 0x7fff or not significand >> 63:
                tag = 2
            else:
                tag = 0
        tags |= tag << (2 * number)
    return tags


cdef void describe(Cpu *cpu, uint32_t *words) noexcept nogil:
    """The environment as its seven words."""
    cdef uint32_t instruction, operand
    words[0] = cpu.fcw | <uint32_t>0xffff0000
    words[1] = cpu.fsw | <uint32_t>0xffff0000
    words[2] = tag_word(cpu) | <uint32_t>0xffff0000
    if not real_layout(cpu):
        words[3] = <uint32_t>cpu.fip
        words[4] = cpu.fcs | <uint32_t>cpu.fop << 16
        words[5] = <uint32_t>cpu.fdp
        words[6] = cpu.fds | <uint32_t>0xffff0000
        return
    instruction = <uint32_t>cpu.fip + (<uint32_t>cpu.fcs << 4)
    operand = <uint32_t>cpu.fdp + (<uint32_t>cpu.fds << 4)
    words[3] = instruction & 0xffff | <uint32_t>0xffff0000
    words[4] = (instruction >> 16) << 12 | cpu.fop
    words[5] = operand & 0xffff | <uint32_t>0xffff0000
    words[6] = (operand >> 16) << 12


cdef void adopt(Cpu *cpu, const uint32_t *words, bint wide) noexcept nogil:
    """The reverse. All tags but that of an empty register mean that the register is full."""
    cdef uint32_t number
    cpu.fcw = <uint16_t>(words[0] & 0x1f3f | 0x40)
    cpu.fsw = <uint16_t>words[1]
    cpu.ftw = 0
    for number in range(8):
        if (words[2] >> (2 * number)) & 3 == 3:
            cpu.ftw |= <uint16_t>(<uint32_t>3 << (2 * number))
    if not real_layout(cpu):
        cpu.fip = words[3]
        cpu.fcs = <uint16_t>words[4]
        if wide:
            cpu.fop = (words[4] >> 16) & 0x7ff
        cpu.fdp = words[5]
        cpu.fds = <uint16_t>words[6]
    else:
        cpu.fip = words[3] & 0xffff | (words[4] >> 12) << 16
        cpu.fop = words[4] & 0x7ff
        cpu.fdp = words[5] & 0xffff | (words[6] >> 12) << 16
        cpu.fcs = cpu.fds = 0
    update_summary(cpu)


cdef void save(Cpu *cpu, Op *op, bint registers) noexcept nogil:
    """Afterwards FNSAVE initialises the unit, as FNINIT does, and FNSTENV masks all exceptions."""
    cdef uint32_t words[WORDS]
    cdef uint8_t image[IMAGE_BYTES]
    cdef uint32_t index, size = word_bytes(op), length = WORDS * size + (REGISTER_BYTES if registers else 0)
    cdef uint64_t address
    if not x87_usable(cpu, op):
        return
    address = linear(cpu, op, op.seg, cpu.ea_offset, length, True)
    if cpu.fault or not probe_write(cpu, op, address, length):
        return
    describe(cpu, words)
    for index in range(WORDS):
        memcpy(image + size * index, &words[index], size)
    for index in range(8):
        memcpy(image + WORDS * size + 10 * index, st(cpu, index), 10)
    for index in range(length // 2):
        store16(cpu, op, address + 2 * index, (<uint16_t *>image)[index])
        if cpu.fault:
            return
    if registers:
        reset_x87(cpu)
    else:
        cpu.fcw |= FSW_FLAGS
        update_summary(cpu)
    leave(cpu, op)


cdef void restore(Cpu *cpu, Op *op, bint registers) noexcept nogil:
    cdef uint32_t words[WORDS]
    cdef uint8_t image[IMAGE_BYTES]
    cdef uint32_t index, size = word_bytes(op), length = WORDS * size + (REGISTER_BYTES if registers else 0)
    cdef uint64_t address
    if not x87_ready(cpu, op):
        return
    address = linear(cpu, op, op.seg, cpu.ea_offset, length, False)
    if cpu.fault:
        return
    for index in range(length // 2):
        (<uint16_t *>image)[index] = load16(cpu, op, address + 2 * index)
        if cpu.fault:
            return
    for index in range(WORDS):
        words[index] = 0
        memcpy(&words[index], image + size * index, size)
    adopt(cpu, words, size == 4)
    if registers:
        for index in range(8):
            memcpy(st(cpu, index), image + WORDS * size + 10 * index, 10)
    leave(cpu, op)


cdef void fnstenv(Cpu *cpu, Op *op) noexcept nogil:
    save(cpu, op, False)


cdef void fnsave(Cpu *cpu, Op *op) noexcept nogil:
    save(cpu, op, True)


cdef void fldenv(Cpu *cpu, Op *op) noexcept nogil:
    restore(cpu, op, False)


cdef void frstor(Cpu *cpu, Op *op) noexcept nogil:
    restore(cpu, op, True)


register_handler("fnstenv", FORM_RM, 0, ADDRESS_EA, fnstenv)
register_handler("fnsave", FORM_RM, 0, ADDRESS_EA, fnsave)
register_handler("fldenv", FORM_RM, 0, ADDRESS_EA, fldenv)
register_handler("frstor", FORM_RM, 0, ADDRESS_EA, frstor)
