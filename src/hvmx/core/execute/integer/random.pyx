# cython: language_level=3
"""RDRAND and RDSEED: random numbers from the machine's own generator, which starts from the machine's seed.

The generator is SplitMix64: G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA
2014, figure 17. Its state is one word, `Cpu.random_state`; each draw is one step. Nothing depends on the host, so that
every run draws the same numbers, which are not secret.
"""
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from hvmx.core.state.insn cimport FORM_RM
from hvmx.core.exit.door cimport describe_exit, instruction_exit
from hvmx.core.state.ops cimport *
from hvmx.core.state.state cimport *

cdef uint64_t STEP = <uint64_t>0x9e3779b97f4a7c15


cdef uint64_t mixed(uint64_t state) noexcept nogil:
    state = (state ^ state >> 30) * <uint64_t>0xbf58476d1ce4e5b9
    state = (state ^ state >> 27) * <uint64_t>0x94d049bb133111eb
    return state ^ state >> 31


# The operand gets the low bits of a draw, and CF is set: there was a number. An exit handler may change it.
cdef void draw(Cpu *cpu, Op *op, uint32_t control, uint32_t reason) noexcept nogil:
    cdef uint64_t value = mixed(cpu.random_state + STEP)
    if operand_size(op) == SIZE_16:
        value = <uint16_t>value
    elif operand_size(op) == SIZE_32:
        value = <uint32_t>value
    if cpu.controls & control:
        describe_exit(cpu, register_number(op.d), value, operand_bytes(op), False, 0)
        if instruction_exit(cpu, op, reason) != EXIT_DONE:
            return
        value = cpu.exit.value
    else:
        leave(cpu, op)
    cpu.random_state += STEP
    cpu.random_draws += 1
    set_arithmetic_flags(cpu, FL_CF)
    if operand_size(op) == SIZE_16:
        set16(cpu, op.d, <uint16_t>value)
    elif operand_size(op) == SIZE_32:
        set32(cpu, op.d, <uint32_t>value)
    else:
        set64(cpu, op.d, value)


cdef void rdrand(Cpu *cpu, Op *op) noexcept nogil:
    draw(cpu, op, CTL_RDRAND, EXIT_REASON_RDRAND)


cdef void rdseed(Cpu *cpu, Op *op) noexcept nogil:
    draw(cpu, op, CTL_RDSEED, EXIT_REASON_RDSEED)


register_handler("rdrand", FORM_RM, 0, ADDRESS_NONE, rdrand)
register_handler("rdseed", FORM_RM, 0, ADDRESS_NONE, rdseed)
