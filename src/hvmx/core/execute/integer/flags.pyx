# cython: language_level=3
"""CLI, STI, PUSHF, POPF, CLAC, STAC."""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.state.insn cimport FORM_NONE
from hvmx.core.memory.mmu cimport *
from hvmx.core.memory.segmentation cimport update_mode
from hvmx.core.state.ops cimport *
from hvmx.core.execute.integer.stack cimport move_stack, peek_stack, push
from hvmx.core.state.state cimport *


cdef inline bint iopl_forbids(Cpu *cpu) noexcept nogil:
    return cpu.cr0 & CR0_PE and (iopl(cpu) < cpu.cpl)


cdef void cli(Cpu *cpu, Op *op) noexcept nogil:
    if iopl_forbids(cpu):
        fault(cpu, op, VEC_GP, 0)
        return
    cpu.rflags &= ~<uint64_t>FL_IF
    leave(cpu, op)


# If IF was clear, interrupts stay blocked until the instruction after STI has ended (SDM vol. 2, STI).
cdef void sti(Cpu *cpu, Op *op) noexcept nogil:
    if iopl_forbids(cpu):
        fault(cpu, op, VEC_GP, 0)
        return
    if not cpu.rflags & FL_IF:
        cpu.rflags |= FL_IF
        cpu.shadow = SHADOW_STI
    leave(cpu, op)


cdef void pushf(Cpu *cpu, Op *op) noexcept nogil:
    if cpu.rflags & FL_VM and iopl(cpu) != 3:
        fault(cpu, op, VEC_GP, 0)
        return
    if push(cpu, op, operand_bits(op), read_rflags(cpu) & ~<uint64_t>(FL_VM | FL_RF)):
        leave(cpu, op)


cdef void popf(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint32_t width = operand_bits(op)
    cdef uint64_t mask = FLAGS_ANYONE
    cdef uint64_t value
    if cpu.rflags & FL_VM and iopl(cpu) != 3:
        fault(cpu, op, VEC_GP, 0)
        return
    value = peek_stack(cpu, op, width)
    if cpu.fault:
        return
    if width > 16:
        mask |= FL_AC | FL_ID
    if cpu.cpl <= iopl(cpu):
        mask |= FL_IF
    if cpu.cpl == 0:
        mask |= FL_IOPL
    move_stack(cpu, width // 8)
    cpu.rflags &= ~<uint64_t>FL_RF
    load_rflags(cpu, value, mask)
    leave(cpu, op)


cdef void set_ac(Cpu *cpu, Op *op, bint value) noexcept nogil:
    if cpu.cpl:  # #UD, not #GP; CR4.SMAP does not matter (SDM vol. 2, CLAC)
        fault(cpu, op, VEC_UD, 0)
        return
    cpu.rflags = cpu.rflags | FL_AC if value else cpu.rflags & ~<uint64_t>FL_AC
    update_mode(cpu)
    leave(cpu, op)


cdef void clac(Cpu *cpu, Op *op) noexcept nogil:
    set_ac(cpu, op, False)


cdef void stac(Cpu *cpu, Op *op) noexcept nogil:
    set_ac(cpu, op, True)


register_handler("cli", FORM_NONE, 0, ADDRESS_NONE, cli)
register_handler("sti", FORM_NONE, 0, ADDRESS_NONE, sti)
register_handler("pushf", FORM_NONE, 0, ADDRESS_NONE, pushf)
register_handler("popf", FORM_NONE, 0, ADDRESS_NONE, popf)
register_handler("clac", FORM_NONE, 0, ADDRESS_NONE, clac)
register_handler("stac", FORM_NONE, 0, ADDRESS_NONE, stac)
