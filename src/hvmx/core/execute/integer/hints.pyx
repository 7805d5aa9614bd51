# cython: language_level=3
"""Ordering and cache control: LFENCE SFENCE MFENCE CLFLUSH. One processor, in order; its caches, if any are modelled, hold no data."""

from hvmx.core.state.insn cimport FORM_NONE, FORM_RM
from hvmx.core.memory.mmu cimport *
from hvmx.core.state.ops cimport *
from hvmx.core.state.state cimport *


cdef void fence(Cpu *cpu, Op *op) noexcept nogil:
    run_next(cpu, op)


# Faults as a load of one byte would (SDM vol. 2, CLFLUSH).
cdef void clflush(Cpu *cpu, Op *op) noexcept nogil:
    flush_line(cpu, op, cpu.ea)
    if UNLIKELY(cpu.fault != 0):
        return
    run_next(cpu, op)


register_handler("lfence", FORM_NONE, 0, ADDRESS_NONE, fence)
register_handler("sfence", FORM_NONE, 0, ADDRESS_NONE, fence)
register_handler("mfence", FORM_NONE, 0, ADDRESS_NONE, fence)
register_handler("clflush", FORM_RM, 8, ADDRESS_EA, clflush)
