# cython: language_level=3
"""SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS (SDM vol. 3, 5.8.7 and 5.8.8)."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from hvmx.core.execute.system.counters cimport leave_level
from hvmx.core.state.insn cimport FORM_NONE
from hvmx.core.memory.mmu cimport *
from hvmx.core.memory.segmentation cimport update_mode
from hvmx.core.state.mxcsr cimport settle_mxcsr
from hvmx.core.state.ops cimport *
from hvmx.core.execute.system.segment cimport canonical
from hvmx.core.state.state cimport *

# Access rights of the flat segments that these instructions load without reading a descriptor; the DPL is added.
cdef enum:
    CODE64_RIGHTS = 0xa09b
    CODE32_RIGHTS = 0xc09b
    STACK_RIGHTS = 0xc093
# The flags that SYSRET loads from R11: all but RF, VM and the reserved ones.
cdef uint64_t SYSRET_FLAGS = 0x3c7fd7


cdef inline void set_flat(Segment *seg, uint32_t selector, uint32_t rights, uint32_t cpl) noexcept nogil:
    seg.selector = <uint16_t>((selector & 0xfffc) | cpl)
    seg.base = 0
    seg.limit = <uint32_t>0xffffffff
    seg.access = rights | cpl << 5


cdef void enter_flat(Cpu *cpu, Op *op, uint32_t code, uint32_t code_rights, uint32_t stack, uint32_t cpl) noexcept nogil:
    set_flat(&cpu.seg[SEG_CS], code, code_rights, cpl)
    set_flat(&cpu.seg[SEG_SS], stack, STACK_RIGHTS, cpl)
    leave_level(cpu, op)
    cpu.cpl = <uint8_t>cpl
    update_mode(cpu)


cdef void syscall(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint64_t flags
    cdef uint32_t selector
    if cpu.pv != NULL:
        settle_mxcsr(cpu)
        if cpu.pv_hypercall(cpu, op) == 0 and cpu.acct < 0 and not bad_target(cpu, cpu.rip):
            enter(cpu, cpu.rip)
        return
    if not cpu.efer & EFER_SCE:
        fault(cpu, op, VEC_UD, 0)
        return
    flags = read_rflags(cpu) & ~<uint64_t>FL_RF
    selector = <uint32_t>(cpu.star >> 32) & 0xfffc
    cpu.r[REG_RCX] = next_ip(op)
    cpu.r[REG_R8 + 3] = flags
    flags &= ~cpu.sfmask
    set_arithmetic_flags(cpu, flags)
    cpu.rflags = (flags & ~<uint64_t>FL_ARITH) | 2
    enter_flat(cpu, op, selector, CODE64_RIGHTS, selector + 8, 0)
    cpu.entered = 1
    leave_to(cpu, op, cpu.lstar)


cdef void sysret(Cpu *cpu, Op *op) noexcept nogil:
    cdef bint to_64 = operand_size(op) == SIZE_64
    cdef uint32_t selector = <uint32_t>(cpu.star >> 48)
    cdef uint64_t flags
    if not cpu.efer & EFER_SCE:
        fault(cpu, op, VEC_UD, 0)
        return
    if to_64 and not canonical(cpu.r[REG_RCX]):
        fault(cpu, op, VEC_GP, 0)
        return
    flags = (cpu.r[REG_R8 + 3] & SYSRET_FLAGS) | 2
    set_arithmetic_flags(cpu, flags)
    cpu.rflags = flags & ~<uint64_t>FL_ARITH
    enter_flat(cpu, op, selector + 16 if to_64 else selector, CODE64_RIGHTS if to_64 else CODE32_RIGHTS, selector + 8, 3)
    leave_to(cpu, op, cpu.r[REG_RCX] if to_64 else <uint32_t>cpu.r[REG_RCX])


cdef void sysenter(Cpu *cpu, Op *op) noexcept nogil:
    cdef bint to_64 = cpu.efer & EFER_LMA != 0
    cdef uint32_t selector = <uint32_t>cpu.sysenter_cs & 0xfffc
    if not selector:
        fault(cpu, op, VEC_GP, 0)
        return
    cpu.rflags &= ~<uint64_t>(FL_VM | FL_IF | FL_RF)
    cpu.r[REG_RSP] = cpu.sysenter_esp if to_64 else <uint32_t>cpu.sysenter_esp
    enter_flat(cpu, op, selector, CODE64_RIGHTS if to_64 else CODE32_RIGHTS, selector + 8, 0)
    leave_to(cpu, op, cpu.sysenter_eip if to_64 else <uint32_t>cpu.sysenter_eip)


cdef void sysexit(Cpu *cpu, Op *op) noexcept nogil:
    cdef bint to_64 = operand_size(op) == SIZE_64
    cdef uint32_t selector = <uint32_t>cpu.sysenter_cs & 0xfffc
    cdef uint64_t target = cpu.r[REG_RDX]
    if not selector or to_64 and not (canonical(target) and canonical(cpu.r[REG_RCX])):
        fault(cpu, op, VEC_GP, 0)
        return
    cpu.r[REG_RSP] = cpu.r[REG_RCX] if to_64 else <uint32_t>cpu.r[REG_RCX]
    if to_64:
        enter_flat(cpu, op, selector + 32, CODE64_RIGHTS, selector + 40, 3)
    else:
        target = <uint32_t>target
        enter_flat(cpu, op, selector + 16, CODE32_RIGHTS, selector + 24, 3)
    leave_to(cpu, op, target)


cdef void swapgs(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint64_t base = cpu.seg[SEG_GS].base
    cpu.seg[SEG_GS].base = cpu.kernel_gs_base
    cpu.kernel_gs_base = base
    leave(cpu, op)


register_handler("syscall", FORM_NONE, 0, ADDRESS_NONE, syscall)
register_handler("sysret", FORM_NONE, 0, ADDRESS_NONE, sysret)
register_handler("sysenter", FORM_NONE, 0, ADDRESS_NONE, sysenter)
register_handler("sysexit", FORM_NONE, 0, ADDRESS_NONE, sysexit)
register_handler("swapgs", FORM_NONE, 0, ADDRESS_NONE, swapgs)
