# cython: language_level=3
"""The state of a processor after RESET (SDM vol. 3, table 9-1)."""
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from hvmx.core.state.ops cimport set_arithmetic_flags
from hvmx.core.state.state cimport *


cdef void reset_state(Cpu *cpu, uint64_t signature) noexcept:
    cdef uint32_t index
    memset(cpu.r, 0, sizeof(cpu.r))
    cpu.r[REG_RDX] = signature
    cpu.rip = 0xfff0
    cpu.rflags = 2
    set_arithmetic_flags(cpu, 0)
    for index in range(SEG_COUNT):
        cpu.seg[index].selector = 0
        cpu.seg[index].base = 0
        cpu.seg[index].limit = 0xffff
        cpu.seg[index].access = 0x93
    cpu.seg[SEG_CS].selector = 0xf000
    cpu.seg[SEG_CS].base = <uint64_t>0xffff0000
    cpu.seg[SEG_CS].access = 0x9b
    cpu.seg[SEG_LDTR].access = 0x82
    cpu.seg[SEG_TR].access = 0x8b
    cpu.gdtr.base = cpu.idtr.base = 0
    cpu.gdtr.limit = cpu.idtr.limit = 0xffff
    cpu.cr0 = cpu.cr0_shadow = <uint64_t>0x60000010
    cpu.cr2 = cpu.cr3 = cpu.cr4 = cpu.cr4_shadow = cpu.cr8 = cpu.efer = 0
    memset(cpu.dr, 0, sizeof(cpu.dr))
    cpu.dr[6] = <uint64_t>0xffff0ff0
    cpu.dr[7] = 0x400
    cpu.star = cpu.lstar = cpu.cstar = cpu.sfmask = cpu.kernel_gs_base = cpu.tsc_aux = 0
    cpu.sysenter_cs = cpu.sysenter_esp = cpu.sysenter_eip = 0
    cpu.apic_base = <uint64_t>0xfee00100  # disabled, as CPUID says (SDM vol. 3, 10.4.3)
    cpu.pat = <uint64_t>0x0007040600070406
    cpu.mtrr_def_type = 0
    memset(cpu.mtrr_fixed, 0, sizeof(cpu.mtrr_fixed))
    memset(cpu.mtrr_phys, 0, sizeof(cpu.mtrr_phys))
    cpu.fcw = 0x40
    cpu.fsw = 0
    cpu.ftw = 0x5555
    cpu.mxcsr = 0x1f80
    cpu.mxcsr_mask = 0xffff
    cpu.xcr0 = 1
    memset(cpu.event_select, 0, sizeof(cpu.event_select))
    memset(cpu.event_count, 0, sizeof(cpu.event_count))
    memset(cpu.tr, 0, sizeof(cpu.tr))
    cpu.counting = 0
    cpu.cpl = 0
    cpu.halted = 0
    cpu.shadow = 0
    cpu.fault = 0
    cpu.pending &= PEND_INTR
    cpu.vectoring = 0
    cpu.nmi = cpu.ignne = 0
    cpu.cs_count = 1
    cpu.cs_base[0] = 0
    cpu.cs_limit[0] = <uint32_t>0xffffffff
