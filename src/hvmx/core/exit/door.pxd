# cython: language_level=3
"""Exits that instructions make, by the numbers of the SDM (vol. 3, appendix C)."""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.state.state cimport *

cdef enum:
    EXIT_EXCEPTION = 0
    EXIT_TRIPLE_FAULT = 2
    EXIT_TASK_SWITCH = 9
    EXIT_CPUID = 10
    EXIT_HLT = 12
    EXIT_INVLPG = 14
    EXIT_RDPMC = 15
    EXIT_RDTSC = 16
    EXIT_VMCALL = 18
    EXIT_CR_ACCESS = 28
    EXIT_MOV_DR = 29
    EXIT_IO = 30
    EXIT_RDMSR = 31
    EXIT_WRMSR = 32
    EXIT_PAUSE = 40
    EXIT_GDTR_IDTR = 46
    EXIT_LDTR_TR = 47
    EXIT_RDTSCP = 51
    EXIT_WBINVD = 54
    EXIT_XSETBV = 55
    EXIT_RDRAND = 57
    EXIT_RDSEED = 61

# Fills in what the handler is told besides the reason; `width` in bytes, `number` of port, MSR, vector or register. What
# only some exits have is 0 until it is filled in.
cdef inline void describe_exit(Cpu *cpu, uint32_t number, uint64_t value, uint32_t width, bint is_write,
                               uint64_t qualification) noexcept nogil:
    cpu.exit.number = number
    cpu.exit.value = value
    cpu.exit.width = width
    cpu.exit.is_write = is_write
    cpu.exit.qualification = qualification
    cpu.exit.length = 0
    cpu.exit.linear = cpu.exit.physical = 0
    cpu.exit.error_code = 0
    cpu.exit.host_only = 0

# Takes the described exit to its handler, with cpu.rip at the instruction and guest time at its end. True: done, cpu.rip
# is after the instruction; what is left is to write results, not to account or leave. False: nothing is left to do. The
# instruction did not happen (cpu.fault says why), or the handler, which moved cpu.rip, did all of it.
cdef bint take_exit(Cpu *cpu, Op *op, uint32_t reason) noexcept nogil
# An exit before an instruction that can still fault (SDM vol. 3, 25.1.1: exits come before the faults of what they are
# about). True: go on as if there had been none, to leave or fault.
cdef bint pass_exit(Cpu *cpu, Op *op, uint32_t reason) noexcept nogil
# An exit between instructions, for events.
cdef bint take_event_exit(Cpu *cpu, uint32_t reason) noexcept nogil
