# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from hvmx.core.execute.system.counters cimport read_counter, select_events, valid_selection, write_counter
from hvmx.core.state.insn cimport FORM_NONE
from hvmx.core.exit.door cimport describe_exit, exit_before_faults, instruction_exit
from hvmx.core.memory.mmu cimport *
from hvmx.core.memory.segmentation cimport update_mode
from hvmx.core.pipeline.paths cimport cycles_now
from hvmx.core.state.ops cimport *
from hvmx.core.execute.system.segment cimport canonical
from hvmx.core.state.state cimport *
from hvmx.isa import features
from hvmx.isa.levels import MSRS

cdef enum:
    MSR_P5_MC_TYPE = 1          # MSR_P5_MC_ADDR is 0
    MSR_TSC = 0x10
    MSR_CESR = 0x11             # the Pentium's 2 counters follow their selection
    MSR_CTR = 0x12
    MSR_PLATFORM_ID = 0x17      # the kind of socket: 0
    MSR_APIC_BASE = 0x1b
    MSR_BIOS_UPDT_TRIG = 0x79   # address of microcode to load
    MSR_BIOS_SIGN_ID = 0x8b     # microcode revision: none is loaded
    MSR_PERFCTR = 0xc1          # the P6 family's 2 counters; their selections are at 186H
    MSR_PERFEVTSEL = 0x186
    MSR_MTRR_CAP = 0xfe
    MSR_ARCH_CAPABILITIES = 0x10a
    MSR_SYSENTER_CS = 0x174
    MSR_SYSENTER_ESP = 0x175
    MSR_SYSENTER_EIP = 0x176
    MSR_MCG_CAP = 0x179
    MSR_MCG_STATUS = 0x17a
    MSR_MISC_ENABLE = 0x1a0
    MSR_DEBUGCTL = 0x1d9
    MSR_MTRR_PHYS = 0x200       # base and mask of 8 ranges
    MSR_MTRR_FIXED_64K = 0x250
    MSR_MTRR_FIXED_16K = 0x258  # 2
    MSR_MTRR_FIXED_4K = 0x268   # 8
    MSR_PAT = 0x277
    MSR_MTRR_DEF_TYPE = 0x2ff
    MTRR_CAPABILITIES = 0x508   # 8 variable ranges, fixed ranges, write combining
    # IA32_ARCH_CAPABILITIES (SDM vol. 4, table 2-2): all bits that report no vulnerability to a speculative attack:
    # RDCL, SSB, MDS, IF_PSCHANGE_MC, TAA, SBDR_SSDP, FBSDP, PSDP, BHI, PBRSB, GDS, RFDS
    NOT_SUSCEPTIBLE = (1 << 0 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 13 | 1 << 14 | 1 << 15 | 1 << 20 | 1 << 24 | 1 << 26
                       | 1 << 27)
    MSR_RANGE = 0x400
cdef uint32_t MSR_EFER = <uint32_t>0xc0000080
cdef uint32_t MSR_STAR = <uint32_t>0xc0000081
cdef uint32_t MSR_LSTAR = <uint32_t>0xc0000082
cdef uint32_t MSR_CSTAR = <uint32_t>0xc0000083
cdef uint32_t MSR_SFMASK = <uint32_t>0xc0000084
cdef uint32_t MSR_FS_BASE = <uint32_t>0xc0000100
cdef uint32_t MSR_GS_BASE = <uint32_t>0xc0000101
cdef uint32_t MSR_KERNEL_GS_BASE = <uint32_t>0xc0000102
cdef uint32_t MSR_TSC_AUX = <uint32_t>0xc0000103

# The number of the feature that an MSR belongs to, by MSR number from 0 and from C0000000; 0 where there is no MSR.
cdef uint8_t msr_features[2][MSR_RANGE]
for _name, _numbers in MSRS.items():
    for _number in _numbers:
        msr_features[_number >> 31][_number & (MSR_RANGE - 1)] = features().index(_name)


cdef inline uint64_t time_stamp(Cpu *cpu, Op *op) noexcept nogil:
    return cycles_now(cpu, op) // CYCLE_FRACTION


# The field of Cpu for an MSR that has no effect but to keep its value; NULL for the others.
cdef uint64_t *storage(Cpu *cpu, uint32_t number) noexcept nogil:
    if MSR_MTRR_PHYS <= number < MSR_MTRR_PHYS + 16:
        return &cpu.mtrr_phys[number - MSR_MTRR_PHYS]
    if number == MSR_MTRR_FIXED_64K:
        return &cpu.mtrr_fixed[0]
    if MSR_MTRR_FIXED_16K <= number < MSR_MTRR_FIXED_16K + 2:
        return &cpu.mtrr_fixed[1 + number - MSR_MTRR_FIXED_16K]
    if MSR_MTRR_FIXED_4K <= number < MSR_MTRR_FIXED_4K + 8:
        return &cpu.mtrr_fixed[3 + number - MSR_MTRR_FIXED_4K]
    if number == MSR_CESR:
        return &cpu.event_select[0]
    if MSR_PERFEVTSEL <= number < MSR_PERFEVTSEL + 2:
        return &cpu.event_select[number - MSR_PERFEVTSEL]
    if number == MSR_APIC_BASE:
        return &cpu.apic_base
    if number == MSR_SYSENTER_CS:
        return &cpu.sysenter_cs
    if number == MSR_SYSENTER_ESP:
        return &cpu.sysenter_esp
    if number == MSR_SYSENTER_EIP:
        return &cpu.sysenter_eip
    if number == MSR_MCG_STATUS:
        return &cpu.mcg_status
    if number == MSR_MISC_ENABLE:
        return &cpu.misc_enable
    if number == MSR_DEBUGCTL:
        return &cpu.debugctl
    if number == MSR_PAT:
        return &cpu.pat
    if number == MSR_MTRR_DEF_TYPE:
        return &cpu.mtrr_def_type
    if number == MSR_STAR:
        return &cpu.star
    if number == MSR_LSTAR:
        return &cpu.lstar
    if number == MSR_CSTAR:
        return &cpu.cstar
    if number == MSR_SFMASK:
        return &cpu.sfmask
    if number == MSR_FS_BASE:
        return &cpu.seg[SEG_FS].base
    if number == MSR_GS_BASE:
        return &cpu.seg[SEG_GS].base
    if number == MSR_KERNEL_GS_BASE:
        return &cpu.kernel_gs_base
    if number == MSR_TSC_AUX:
        return &cpu.tsc_aux
    if number == MSR_EFER:
        return &cpu.efer
    return NULL


cdef inline bint is_counter(uint32_t number) noexcept nogil:
    return MSR_CTR <= number < MSR_CTR + 2 or MSR_PERFCTR <= number < MSR_PERFCTR + 2


cdef inline uint32_t counter_index(uint32_t number) noexcept nogil:
    return number - MSR_PERFCTR if number >= MSR_PERFCTR else number - MSR_CTR


cdef inline bint is_selection(uint32_t number) noexcept nogil:
    return number == MSR_CESR or MSR_PERFEVTSEL <= number < MSR_PERFEVTSEL + 2


cdef bint has_msr(Cpu *cpu, uint32_t number) noexcept nogil:
    cdef uint32_t index = number & 0x3fffffff
    cdef uint32_t feature
    if index >= MSR_RANGE or 0 < number >> 30 < 3:
        return False
    feature = msr_features[number >> 31][index]
    return feature and cpu.features >> feature & 1


cdef bint read_msr(Cpu *cpu, Op *op, uint32_t number, uint64_t *value) noexcept nogil:
    cdef uint64_t *place = storage(cpu, number)
    if not has_msr(cpu, number):
        return False
    if place != NULL:
        value[0] = place[0]
    elif number == MSR_TSC:
        value[0] = time_stamp(cpu, op) + <uint64_t>cpu.tsc_offset
    elif is_counter(number):
        value[0] = read_counter(cpu, op, counter_index(number))
    elif number == MSR_MTRR_CAP:
        value[0] = MTRR_CAPABILITIES
    elif number == MSR_ARCH_CAPABILITIES:
        value[0] = NOT_SUSCEPTIBLE
    elif (number == MSR_MCG_CAP or number == MSR_BIOS_SIGN_ID or number == MSR_PLATFORM_ID
            or number <= MSR_P5_MC_TYPE):
        value[0] = 0
    else:
        return False
    return True


cdef bint valid_pat(uint64_t value) noexcept nogil:
    cdef uint32_t index, kind
    for index in range(8):
        kind = <uint32_t>(value >> (8 * index)) & 0xff
        if kind > 7 or kind == 2 or kind == 3:
            return False
    return True


# --- MTRRs (SDM vol. 3, 11.11.2) --------------------------------------------------------------------------------------------
cdef inline bint is_memory_type(uint64_t kind) noexcept nogil:
    return kind <= 6 and kind != 2 and kind != 3


cdef bint valid_mtrr(Cpu *cpu, uint32_t number, uint64_t value) noexcept nogil:
    cdef uint32_t index
    if number == MSR_MTRR_DEF_TYPE:
        return value & ~<uint64_t>0xcff == 0 and is_memory_type(value & 0xff)
    if number < MSR_MTRR_FIXED_64K:
        if value >> cpu.phys_bits:
            return False
        return value & 0x7ff == 0 if number & 1 else value & 0xf00 == 0 and is_memory_type(value & 0xff)
    for index in range(8):
        if not is_memory_type(value >> (8 * index) & 0xff):
            return False
    return True


cdef bint valid_msr(Cpu *cpu, uint32_t number, uint64_t value) noexcept nogil:
    if MSR_MTRR_PHYS <= number < MSR_PAT or number == MSR_MTRR_DEF_TYPE:
        return valid_mtrr(cpu, number, value)
    if number == MSR_APIC_BASE:  # there is no local APIC to enable
        return value & 0xeff == 0 and value >> cpu.phys_bits == 0
    if number == MSR_EFER:
        # LMA is LME and CR0.PG; LME cannot change while paging is on.
        return value & ~cpu.efer_defined == 0 and not (cpu.cr0 & CR0_PG and (value ^ cpu.efer) & EFER_LME)
    if number == MSR_PAT:
        return valid_pat(value)
    if (number == MSR_LSTAR or number == MSR_CSTAR or MSR_FS_BASE <= number <= MSR_KERNEL_GS_BASE
            or number == MSR_SYSENTER_ESP or number == MSR_SYSENTER_EIP or number == MSR_BIOS_UPDT_TRIG):
        return canonical(value)
    if number == MSR_TSC_AUX:
        return value >> 32 == 0
    if is_selection(number):
        return valid_selection(cpu, value)
    if (number == MSR_MTRR_CAP or number == MSR_MCG_CAP or number == MSR_ARCH_CAPABILITIES
            or number == MSR_PLATFORM_ID):
        return False
    if number == MSR_MCG_STATUS:
        return value == 0
    return True


cdef void write_msr(Cpu *cpu, uint32_t number, uint64_t value) noexcept nogil:
    cdef uint64_t *place = storage(cpu, number)
    cdef uint64_t changed
    if number == MSR_EFER:
        value = (value & ~<uint64_t>EFER_LMA) | (cpu.efer & EFER_LMA)
        changed = value ^ cpu.efer
        cpu.efer = value
        if changed & EFER_NXE:
            flush_tlb(cpu, True)
        update_mode(cpu)
    elif number == MSR_SFMASK:
        cpu.sfmask = value & <uint64_t>0xffffffff
    elif is_selection(number):
        select_events(cpu, 0 if number == MSR_CESR else number - MSR_PERFEVTSEL, value)
    elif is_counter(number):
        write_counter(cpu, counter_index(number), value)
    elif place != NULL:
        place[0] = value


# --- RDMSR and WRMSR --------------------------------------------------------------------------------------------------------
# Four bitmaps: reads of low and high MSRs, writes of low and high MSRs (SDM vol. 3, 24.6.9). All other MSRs exit.
cdef bint msr_exits(Cpu *cpu, uint32_t number, bint is_write) noexcept nogil:
    cdef uint32_t bit = number & 0x1fff
    cdef uint32_t quarter = 2048 if is_write else 0
    if number >= <uint32_t>0xc0000000 and number < <uint32_t>0xc0002000:
        quarter += 1024
    elif number >= 0x2000:
        return True
    return (cpu.msr_bitmap[quarter + (bit >> 3)] >> (bit & 7)) & 1


cdef void rdmsr(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint32_t number = <uint32_t>cpu.r[REG_RCX]
    cdef uint64_t value = 0
    cdef bint known = read_msr(cpu, op, number, &value)
    describe_exit(cpu, number, value, 0, False, 0)
    if msr_exits(cpu, number, False):
        if instruction_exit(cpu, op, EXIT_REASON_MSR_READ) != EXIT_DONE:
            return
        value = cpu.exit.value
    elif known:
        leave(cpu, op)
    else:
        fault(cpu, op, VEC_GP, 0)
        return
    set32(cpu, 8 * REG_RAX, <uint32_t>value)
    set32(cpu, 8 * REG_RDX, <uint32_t>(value >> 32))


cdef void wrmsr(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint32_t number = <uint32_t>cpu.r[REG_RCX]
    cdef uint64_t value = <uint32_t>cpu.r[REG_RAX] | cpu.r[REG_RDX] << 32
    cdef uint64_t now = time_stamp(cpu, op)
    cdef bint known = has_msr(cpu, number)
    describe_exit(cpu, number, value, 0, True, 0)
    cdef bint exits = msr_exits(cpu, number, True)
    if exits:
        if exit_before_faults(cpu, op, EXIT_REASON_MSR_WRITE) != EXIT_DONE:
            return
        value = cpu.exit.value
    if not (valid_msr(cpu, number, value) if known else exits):
        fault(cpu, op, VEC_GP, 0)
        return
    leave(cpu, op)
    if number == MSR_TSC:
        cpu.tsc_offset = <int64_t>(value - now)
    elif known:
        write_msr(cpu, number, value)


register_handler("rdmsr", FORM_NONE, 0, ADDRESS_NONE, rdmsr)
register_handler("wrmsr", FORM_NONE, 0, ADDRESS_NONE, wrmsr)
