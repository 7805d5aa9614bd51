# cython: language_level=3
"""Control and debug registers, HLT, INVLPG, INVPCID, caches, time stamps, CPUID, VMCALL."""
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from hvmx.core.execute.system.counters cimport has_p6_counters, read_counter
from hvmx.core.state.insn cimport FORM_NONE, FORM_R_RM, FORM_RM, FORM_RM_R
from hvmx.core.exit.door cimport *
from hvmx.core.execute.system.interrupt cimport debug_fault
from hvmx.core.memory.caches cimport forget_lines
from hvmx.core.memory.mmu cimport *
from hvmx.core.memory.segmentation cimport update_mode
from hvmx.core.pipeline.paths cimport cycles_now, take_back
from hvmx.core.state.mxcsr cimport settle_mxcsr
from hvmx.core.state.ops cimport *
from hvmx.core.memory.paging cimport load_pdptes
from hvmx.core.memory.shadow cimport shadow_flush, shadow_flush_page
from hvmx.core.memory.tlb cimport forget_page, forget_pcid, forget_private
from hvmx.core.state.state cimport *
from hvmx.core.state.timeline cimport note_turn

cdef uint64_t CR0_DEFINED = (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD
                             | <uint64_t>0x80000000)
# Bits whose change invalidates all entries of the TLB (SDM vol. 3, 4.10.4.1; of CR0.WP the manual does not say so, but KVM
# does it, and a TLB may always); and those that change what an entry allows.
cdef uint64_t CR0_FLUSHES_ALL = CR0_WP | <uint64_t>0x80000000
cdef uint64_t CR4_FLUSHES_ALL = CR4_PGE | CR4_PSE
cdef uint64_t CR4_RIGHTS = CR4_SMEP | CR4_SMAP
cdef uint64_t NO_FLUSH = <uint64_t>1 << 63   # in what is loaded into CR3, with CR4.PCIDE set

# Access type in the exit qualification of CR accesses (SDM vol. 3, table 27-3).
cdef enum:
    CR_MOV_FROM = 1 << 4
    CR_CLTS = 2 << 4
    CR_LMSW = 3 << 4
    CR_LMSW_MEMORY = 1 << 6
    DR_MOV_FROM = 1 << 4  # direction of a DR access (table 27-4)
    DR6_BD = 0x2000
    DR7_GD = 0x2000
    TR6_LOOKUP = 1
    TR7_HIT = 0x10
cdef uint64_t DR6_FIXED = <uint64_t>0xffff0ff0
cdef uint64_t DR7_WRITABLE = <uint64_t>0xffff23ff


# --- control registers ----------------------------------------------------------------------------------------------------
cdef inline bint pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer) noexcept nogil:
    return cr0 & <uint64_t>0x80000000 and cr4 & CR4_PAE and not efer & EFER_LME


cdef bint valid_cr0(Cpu *cpu, uint64_t value) noexcept nogil:
    cdef uint64_t paging = <uint64_t>0x80000000
    if value >> 32 or value & paging and not value & CR0_PE or value & CR0_NW and not value & CR0_CD:
        return False
    if value & paging and not cpu.cr0 & paging and cpu.efer & EFER_LME:
        if not cpu.cr4 & CR4_PAE or cpu.seg[SEG_CS].access & AR_L or not cpu.seg[SEG_TR].access & 8:
            return False
    if not value & paging and cpu.cr0 & paging and (cpu.mode & MODE_WIDTH == MODE_64 or cpu.cr4 & CR4_PCIDE):
        return False
    if pae_paging(value, cpu.cr4, cpu.efer) and (value ^ cpu.cr0) & (paging | CR0_CD | CR0_NW):
        return load_pdptes(cpu, cpu.cr3)
    return True


cdef void write_cr0(Cpu *cpu, uint64_t value) noexcept nogil:
    cdef uint64_t paging = <uint64_t>0x80000000
    cdef uint64_t changed
    value = (value & CR0_DEFINED) | CR0_ET
    changed = value ^ cpu.cr0
    cpu.cr0 = value
    if changed & paging:
        if value & paging and cpu.efer & EFER_LME:
            cpu.efer |= EFER_LMA
        else:
            cpu.efer &= ~<uint64_t>EFER_LMA
    if changed & CR0_FLUSHES_ALL:
        flush_tlb(cpu, True)
    elif changed & CR0_PE:
        drop_translations(cpu, True)
    update_mode(cpu)


cdef bint valid_cr3(Cpu *cpu, uint64_t value) noexcept nogil:
    if cpu.efer & EFER_LMA:
        return (value & ~NO_FLUSH if cpu.cr4 & CR4_PCIDE else value) >> cpu.phys_bits == 0
    if pae_paging(cpu.cr0, cpu.cr4, cpu.efer):
        return load_pdptes(cpu, value)
    return True


cdef void write_cr3(Cpu *cpu, uint64_t value) noexcept nogil:
    cdef bint keep = cpu.cr4 & CR4_PCIDE and value & NO_FLUSH
    note_turn(cpu, guest_time(cpu))
    cpu.cr3 = value & ~NO_FLUSH
    if keep:
        drop_translations(cpu, False)  # those of the PCID that was the current one
    else:
        flush_tlb(cpu, False)


cdef bint valid_cr4(Cpu *cpu, uint64_t value) noexcept nogil:
    if value & ~cpu.cr4_defined or cpu.efer & EFER_LMA and not value & CR4_PAE:
        return False
    if value & ~cpu.cr4 & CR4_PCIDE and (not cpu.efer & EFER_LMA or cpu.cr3 & 0xfff):
        return False
    if pae_paging(cpu.cr0, value, cpu.efer) and (value ^ cpu.cr4) & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP):
        return load_pdptes(cpu, cpu.cr3)
    return True


cdef void write_cr4(Cpu *cpu, uint64_t value) noexcept nogil:
    cdef uint64_t changed = value ^ cpu.cr4
    cpu.cr4 = value
    if changed & CR4_FLUSHES_ALL or changed & ~value & CR4_PCIDE:
        flush_tlb(cpu, True)
    elif changed & CR4_PAE or changed & value & CR4_SMEP:
        flush_tlb(cpu, False)
    if changed & CR4_RIGHTS:
        drop_translations(cpu, True)
    update_mode(cpu)


cdef inline uint64_t operand_width(Cpu *cpu, uint64_t value) noexcept nogil:
    """MOV to and from CR and DR is 64 bits wide in 64-bit mode, else 32, whatever the prefixes."""
    return value if cpu.mode & MODE_WIDTH == MODE_64 else value & <uint64_t>0xffffffff


cdef inline uint64_t seen_cr0(Cpu *cpu) noexcept nogil:
    return (cpu.cr0 & ~cpu.cr0_mask) | (cpu.cr0_shadow & cpu.cr0_mask)


cdef inline bint cr_exits(Cpu *cpu, uint32_t number, uint64_t value) noexcept nogil:
    if number == 0:
        return (value ^ cpu.cr0_shadow) & cpu.cr0_mask != 0
    if number == 3:
        return cpu.controls & CTL_CR3_LOAD != 0
    if number == 4:
        return (value ^ cpu.cr4_shadow) & cpu.cr4_mask != 0
    return number == 8 and cpu.controls & CTL_CR8_LOAD


# Write a control register. If this exits, the handler may change cpu.exit.value first; if not, host-owned bits stay as
# they are (SDM vol. 3, 25.3). #GP for an invalid value.
cdef void change_cr(Cpu *cpu, Op *op, uint32_t number, uint64_t value, uint64_t qualification) noexcept nogil:
    cdef uint64_t cr0_shadow = cpu.cr0_shadow, cr4_shadow = cpu.cr4_shadow
    if cr_exits(cpu, number, value):
        describe_exit(cpu, number, value, 0, True, number | qualification)
        cpu.exit.linear = cpu.ea if qualification & CR_LMSW_MEMORY else 0
        if exit_before_faults(cpu, op, EXIT_REASON_CR_ACCESS) != EXIT_DONE:
            return
        value = cpu.exit.value
    elif number == 0:
        value = (value & ~cpu.cr0_mask) | (cpu.cr0 & cpu.cr0_mask)
    elif number == 4:
        value = (value & ~cpu.cr4_mask) | (cpu.cr4 & cpu.cr4_mask)
    if (number == 0 and not valid_cr0(cpu, value) or number == 3 and not valid_cr3(cpu, value)
            or number == 4 and not valid_cr4(cpu, value) or number == 8 and value > 15):
        cpu.cr0_shadow = cr0_shadow
        cpu.cr4_shadow = cr4_shadow
        fault(cpu, op, VEC_GP, 0)
        return
    leave(cpu, op)
    if number == 0:
        write_cr0(cpu, value)
    elif number == 2:
        cpu.cr2 = value
    elif number == 3:
        write_cr3(cpu, value)
    elif number == 4:
        write_cr4(cpu, value)
    else:
        cpu.cr8 = value


cdef void mov_to_cr(Cpu *cpu, Op *op) noexcept nogil:
    change_cr(cpu, op, op.d, operand_width(cpu, reg64(cpu, op.s)[0]), <uint64_t>register_number(op.s) << 8)


cdef void mov_from_cr(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint64_t value
    if op.s == 0:
        value = seen_cr0(cpu)
    elif op.s == 2:
        value = cpu.cr2
    elif op.s == 3:
        value = cpu.cr3
    elif op.s == 4:
        value = (cpu.cr4 & ~cpu.cr4_mask) | (cpu.cr4_shadow & cpu.cr4_mask)
    else:
        value = cpu.cr8
    if op.s == 3 and cpu.controls & CTL_CR3_STORE or op.s == 8 and cpu.controls & CTL_CR8_STORE:
        describe_exit(cpu, op.s, value, 0, False, op.s | CR_MOV_FROM | <uint64_t>register_number(op.d) << 8)
        if instruction_exit(cpu, op, EXIT_REASON_CR_ACCESS) != EXIT_DONE:
            return
        value = cpu.exit.value
    else:
        leave(cpu, op)
    set64(cpu, op.d, operand_width(cpu, value))


cdef void clts(Cpu *cpu, Op *op) noexcept nogil:
    if cpu.cr0_mask & cpu.cr0_shadow & CR0_TS:
        describe_exit(cpu, 0, seen_cr0(cpu) & ~<uint64_t>CR0_TS, 0, True, CR_CLTS)
        if instruction_exit(cpu, op, EXIT_REASON_CR_ACCESS) != EXIT_DONE:
            return
    else:
        leave(cpu, op)
        if cpu.cr0_mask & CR0_TS:
            return
    cpu.cr0 &= ~<uint64_t>CR0_TS


# LMSW writes the low four bits; it can set PE, but not clear it.
cdef void lmsw(Cpu *cpu, Op *op, uint16_t source, uint64_t operand) noexcept nogil:
    cdef uint64_t value = (seen_cr0(cpu) & ~<uint64_t>0xe) | (source & 0xf)
    change_cr(cpu, op, 0, value, CR_LMSW | operand | <uint64_t>source << 16)


cdef void lmsw_r(Cpu *cpu, Op *op) noexcept nogil:
    lmsw(cpu, op, reg16(cpu, op.d)[0], 0)


cdef void lmsw_m(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint16_t source = load16(cpu, op, cpu.ea)
    if cpu.fault == 0:
        lmsw(cpu, op, source, CR_LMSW_MEMORY)


cdef inline bint umip_forbids(Cpu *cpu, Op *op) noexcept nogil:
    if cpu.cr4 & CR4_UMIP and cpu.cpl:
        fault(cpu, op, VEC_GP, 0)
        return True
    return False


cdef void smsw_r(Cpu *cpu, Op *op) noexcept nogil:
    if umip_forbids(cpu, op):
        return
    if operand_size(op) == SIZE_16:
        set16(cpu, op.d, <uint16_t>seen_cr0(cpu))
    else:
        set64(cpu, op.d, seen_cr0(cpu))
    leave(cpu, op)


cdef void smsw_m(Cpu *cpu, Op *op) noexcept nogil:
    if umip_forbids(cpu, op):
        return
    store16(cpu, op, cpu.ea, <uint16_t>seen_cr0(cpu))
    if cpu.fault == 0:
        leave(cpu, op)


# --- debug registers (SDM vol. 3, 17.2) -------------------------------------------------------------------------------------
cdef bint may_use_dr(Cpu *cpu, Op *op, uint32_t number) noexcept nogil:
    """The checks; if the instruction may go on, it has been accounted for."""
    if (number == 4 or number == 5) and cpu.cr4 & CR4_DE:
        fault(cpu, op, VEC_UD, 0)
        return False
    if cpu.dr[7] & DR7_GD:
        debug_fault(cpu, op, DR6_BD)
        return False
    leave(cpu, op)
    return True


# The exit comes before all checks but that of the privilege level. The handler may change the value that is moved.
cdef bint pass_dr_exit(Cpu *cpu, Op *op, uint32_t number, uint64_t *value, uint64_t qualification) noexcept nogil:
    if cpu.controls & CTL_MOV_DR:
        describe_exit(cpu, number, value[0], 0, not qualification & DR_MOV_FROM, number | qualification)
        if exit_before_faults(cpu, op, EXIT_REASON_DR_ACCESS) != EXIT_DONE:
            return False
        value[0] = cpu.exit.value
    return True


cdef inline uint32_t dr_number(uint32_t number) noexcept nogil:
    return number + 2 if number == 4 or number == 5 else number


cdef void mov_to_dr(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint64_t value = operand_width(cpu, reg64(cpu, op.s)[0])
    cdef uint32_t number = dr_number(op.d)
    if not pass_dr_exit(cpu, op, op.d, &value, <uint64_t>register_number(op.s) << 8):
        return
    if number >= 6 and value >> 32 and not (op.d < 6 and cpu.cr4 & CR4_DE):
        fault(cpu, op, VEC_GP, 0)
        return
    if not may_use_dr(cpu, op, op.d):
        return
    if number == 6:
        value = (value & 0xe00f) | DR6_FIXED
    elif number == 7:
        value = (value & DR7_WRITABLE) | 0x400
    cpu.dr[number] = value
    drop_translations(cpu, True)  # pages with breakpoints have no fast path


cdef void mov_from_dr(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint64_t value = operand_width(cpu, cpu.dr[dr_number(op.s)])
    cdef uint64_t qualification = DR_MOV_FROM | <uint64_t>register_number(op.d) << 8
    if pass_dr_exit(cpu, op, op.s, &value, qualification) and may_use_dr(cpu, op, op.s):
        set64(cpu, op.d, operand_width(cpu, value))


# --- test registers (i486 Processor Programmer's Reference Manual, chapter 10) -----------------------------------------------
# They keep the value written to them. There are no caches to test, and a TLB look-up finds nothing.
cdef void mov_to_tr(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint32_t value = reg32(cpu, op.s)[0]
    leave(cpu, op)
    cpu.tr[op.d] = value
    if op.d == 6 and value & TR6_LOOKUP:
        cpu.tr[7] &= ~<uint32_t>TR7_HIT


cdef void mov_from_tr(Cpu *cpu, Op *op) noexcept nogil:
    leave(cpu, op)
    set32(cpu, op.d, cpu.tr[op.s])


# --- the rest -----------------------------------------------------------------------------------------------------------------
cdef void hlt(Cpu *cpu, Op *op) noexcept nogil:
    if cpu.controls & CTL_HLT:
        describe_exit(cpu, 0, 0, 0, False, 0)
        instruction_exit(cpu, op, EXIT_REASON_HLT)
        return
    cpu.halted = 1
    leave(cpu, op)


cdef void invlpg(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint64_t address = cpu.ea
    if cpu.controls & CTL_INVLPG:
        describe_exit(cpu, 0, 0, 0, False, address)
        if instruction_exit(cpu, op, EXIT_REASON_INVLPG) != EXIT_DONE:
            return
    else:
        leave(cpu, op)
    flush_page(cpu, address)


# What INVPCID invalidates (SDM vol. 2, INVPCID), by the value of its register operand.
cdef enum:
    INVPCID_ADDRESS = 0
    INVPCID_PCID = 1
    INVPCID_ALL = 2
    INVPCID_PRIVATE = 3


cdef bint valid_invpcid(Cpu *cpu, uint64_t type, uint64_t pcid, uint64_t address) noexcept nogil:
    if type > INVPCID_PRIVATE or pcid >> 12:
        return False
    if type == INVPCID_ADDRESS and <uint64_t>(<int64_t>(address << 16) >> 16) != address:
        return False
    return type > INVPCID_PCID or pcid == 0 or cpu.cr4 & CR4_PCIDE


cdef void invpcid(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint64_t at = cpu.ea, type = operand_width(cpu, reg64(cpu, op.d)[0])
    cdef uint64_t pcid, address
    if cpu.controls & CTL_INVLPG:
        # "Enable INVPCID" is always set (SDM vol. 3, 25.1.3). The qualification is the operand's displacement.
        describe_exit(cpu, <uint32_t>type, 0, 16, False, <uint64_t>(op - 1).disp)
        cpu.exit.linear = at
        if exit_before_faults(cpu, op, EXIT_REASON_INVPCID) != EXIT_DONE:
            return
    pcid = load64(cpu, op, at)
    if cpu.fault:
        return
    address = load64(cpu, op, at + 8)
    if cpu.fault:
        return
    if not valid_invpcid(cpu, type, pcid, address):
        fault(cpu, op, VEC_GP, 0)
        return
    leave(cpu, op)
    if type == INVPCID_ALL:
        flush_tlb(cpu, True)
    elif type == INVPCID_PRIVATE:
        forget_private(cpu)
        drop_translations(cpu, False)
        shadow_flush(cpu)
    elif type == INVPCID_PCID:
        forget_pcid(cpu, <uint32_t>pcid)
        drop_translations(cpu, False)
        shadow_flush(cpu)
    else:
        forget_page(cpu, address, <uint32_t>pcid, False)
        drop_page(cpu, address)
        shadow_flush_page(cpu, address)


cdef void exit_or_nothing(Cpu *cpu, Op *op, uint32_t control, uint32_t reason) noexcept nogil:
    if cpu.controls & control:
        describe_exit(cpu, 0, 0, 0, False, 0)
        instruction_exit(cpu, op, reason)
    else:
        leave(cpu, op)


cdef void wbinvd(Cpu *cpu, Op *op) noexcept nogil:
    forget_lines(cpu)
    exit_or_nothing(cpu, op, CTL_WBINVD, EXIT_REASON_WBINVD)


# INVD and CPUID exit whatever the controls say (SDM vol. 3, 25.1.2). The handler of CPUID fills in the registers.
cdef void invd(Cpu *cpu, Op *op) noexcept nogil:
    forget_lines(cpu)
    describe_exit(cpu, 0, 0, 0, False, 0)
    instruction_exit(cpu, op, EXIT_REASON_INVD)


cdef void cpuid(Cpu *cpu, Op *op) noexcept nogil:
    describe_exit(cpu, <uint32_t>cpu.r[REG_RAX], 0, 0, False, 0)
    instruction_exit(cpu, op, EXIT_REASON_CPUID)


cdef void pause(Cpu *cpu, Op *op) noexcept nogil:
    exit_or_nothing(cpu, op, CTL_PAUSE, EXIT_REASON_PAUSE_INSTRUCTION)


cdef bint read_tsc(Cpu *cpu, Op *op, uint32_t reason) noexcept nogil:
    """The time stamp into EDX:EAX; where RDTSC exits, the value is the handler's."""
    if cpu.cr4 & CR4_TSD and cpu.cpl and cpu.cr0 & CR0_PE:
        fault(cpu, op, VEC_GP, 0)
        return False
    describe_exit(cpu, 0, cycles_now(cpu, op) // CYCLE_FRACTION + <uint64_t>cpu.tsc_offset, 0, False, 0)
    if cpu.controls & CTL_RDTSC:
        if instruction_exit(cpu, op, reason) != EXIT_DONE:
            return False
    else:
        leave(cpu, op)
    set32(cpu, 8 * REG_RAX, <uint32_t>cpu.exit.value)
    set32(cpu, 8 * REG_RDX, <uint32_t>(cpu.exit.value >> 32))
    return True


cdef void rdtsc(Cpu *cpu, Op *op) noexcept nogil:
    read_tsc(cpu, op, EXIT_REASON_RDTSC)


cdef void rdtscp(Cpu *cpu, Op *op) noexcept nogil:
    if read_tsc(cpu, op, EXIT_REASON_RDTSCP):
        set32(cpu, 8 * REG_RCX, <uint32_t>cpu.tsc_aux)


# Where RDPMC exits, the handler may emulate counters that the processor does not have.
cdef void rdpmc(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint32_t index = <uint32_t>cpu.r[REG_RCX]
    cdef bint known = index < 2 and has_p6_counters(cpu)
    if cpu.cpl and not cpu.cr4 & CR4_PCE or not (known or cpu.controls & CTL_RDPMC):
        fault(cpu, op, VEC_GP, 0)
        return
    describe_exit(cpu, index, read_counter(cpu, op, index) if known else 0, 0, False, 0)
    if cpu.controls & CTL_RDPMC:
        if instruction_exit(cpu, op, EXIT_REASON_RDPMC) != EXIT_DONE:
            return
    else:
        leave(cpu, op)
    set32(cpu, 8 * REG_RAX, <uint32_t>cpu.exit.value)
    set32(cpu, 8 * REG_RDX, <uint32_t>(cpu.exit.value >> 32))


# VMCALL and VMMCALL have the same exit, as in KVM. A hypercall with a C function in the table needs no exit handler,
# but must look the same to the guest: so time is already that of the instruction's end, as exit handlers see it.
cdef void vmcall(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint64_t number
    settle_mxcsr(cpu)
    account(cpu, op)
    if cpu.vmcall != NULL and cpu.vmcall(cpu) == 0:
        if cpu.pending or cpu.acct >= 0:
            cpu.rip = next_ip(op)
        else:
            enter(cpu, next_ip(op))
        return
    take_back(cpu, op)
    if cpu.pv != NULL:  # #UD: a PV guest is not in VMX non-root operation (SDM vol. 3, 30.3, VMCALL)
        fault(cpu, op, VEC_UD, 0)
        return
    number = cpu.r[REG_RAX] if cpu.mode & MODE_WIDTH == MODE_64 else <uint32_t>cpu.r[REG_RAX]
    if number >> 32:
        number = <uint32_t>0xffffffff  # a number that no table has
    describe_exit(cpu, <uint32_t>number, 0, 0, False, 0)
    instruction_exit(cpu, op, EXIT_REASON_VMCALL)


# There is no system management mode to resume from (SDM vol. 2, RSM); UD0, UD1, UD2.
cdef void undefined(Cpu *cpu, Op *op) noexcept nogil:
    fault(cpu, op, VEC_UD, 0)


register_handler("mov_to_cr", FORM_R_RM, 0, ADDRESS_NONE, mov_to_cr)
register_handler("mov_from_cr", FORM_RM_R, 0, ADDRESS_NONE, mov_from_cr)
register_handler("mov_to_dr", FORM_R_RM, 0, ADDRESS_NONE, mov_to_dr)
register_handler("mov_from_dr", FORM_RM_R, 0, ADDRESS_NONE, mov_from_dr)
register_handler("mov_to_tr", FORM_R_RM, 0, ADDRESS_NONE, mov_to_tr)
register_handler("mov_from_tr", FORM_RM_R, 0, ADDRESS_NONE, mov_from_tr)
register_handler("clts", FORM_NONE, 0, ADDRESS_NONE, clts)
register_handler("lmsw", FORM_RM, 0, ADDRESS_NONE, lmsw_r)
register_handler("lmsw", FORM_RM, 0, ADDRESS_EA, lmsw_m)
register_handler("smsw", FORM_RM, 0, ADDRESS_NONE, smsw_r)
register_handler("smsw", FORM_RM, 0, ADDRESS_EA, smsw_m)
register_handler("hlt", FORM_NONE, 0, ADDRESS_NONE, hlt)
register_handler("invlpg", FORM_RM, 0, ADDRESS_EA, invlpg)
register_handler("invpcid", FORM_R_RM, 0, ADDRESS_EA, invpcid)
register_handler("wbinvd", FORM_NONE, 0, ADDRESS_NONE, wbinvd)
register_handler("invd", FORM_NONE, 0, ADDRESS_NONE, invd)
register_handler("pause", FORM_NONE, 0, ADDRESS_NONE, pause)
register_handler("rdtsc", FORM_NONE, 0, ADDRESS_NONE, rdtsc)
register_handler("rdtscp", FORM_NONE, 0, ADDRESS_NONE, rdtscp)
register_handler("rdpmc", FORM_NONE, 0, ADDRESS_NONE, rdpmc)
register_handler("cpuid", FORM_NONE, 0, ADDRESS_NONE, cpuid)
register_handler("vmcall", FORM_NONE, 0, ADDRESS_NONE, vmcall)
register_handler("vmmcall", FORM_NONE, 0, ADDRESS_NONE, vmcall)
register_handler("rsm", FORM_NONE, 0, ADDRESS_NONE, undefined)
register_handler("ud0", FORM_R_RM, 0, ADDRESS_NONE, undefined)
register_handler("ud1", FORM_R_RM, 0, ADDRESS_NONE, undefined)
register_handler("ud2", FORM_NONE, 0, ADDRESS_NONE, undefined)
