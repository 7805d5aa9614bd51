# cython: language_level=3
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from hvmx.core.execute.system.counters cimport leave_level
from hvmx.core.exit.door cimport describe_exit, event_exit
from hvmx.core.memory.mmu cimport *
from hvmx.core.memory.segmentation cimport update_mode
from hvmx.core.state.ops cimport *
from hvmx.core.memory.paging cimport load_pdptes
from hvmx.core.execute.system.segment cimport *
from hvmx.core.state.state cimport *

# Offsets in the TSS (SDM vol. 3, figures 7-2 and 7-10).
cdef enum:
    TSS32_CR3 = 0x1c
    TSS32_EIP = 0x20
    TSS32_EFLAGS = 0x24
    TSS32_REGISTERS = 0x28
    TSS32_SEGMENTS = 0x48
    TSS32_LDT = 0x60
    TSS32_TRAP = 0x64
    TSS32_IO_MAP = 0x66
    TSS32_LAST = 0x67
    TSS16_IP = 0x0e
    TSS16_FLAGS = 0x10
    TSS16_REGISTERS = 0x12
    TSS16_SEGMENTS = 0x22
    TSS16_LDT = 0x2a
    TSS16_LAST = 0x2b
    DR6_TASK_SWITCH = 0x8000
    DR7_LOCAL_ENABLES = 0x155

# The state of a task, as in its TSS.
ctypedef struct TaskImage:
    uint64_t cr3
    uint64_t ip
    uint64_t flags
    uint64_t registers[8]
    uint32_t segments[6]
    uint32_t ldt
    bint trap


cdef bint load_image(Cpu *cpu, Op *op, uint64_t base, bint wide, TaskImage *image) noexcept nogil:
    cdef uint32_t index
    cdef uint32_t size = 4 if wide else 2
    memset(image, 0, sizeof(TaskImage))
    image.cr3 = cpu.cr3
    if wide:
        image.cr3 = system_load(cpu, op, base + TSS32_CR3, 4)
    if cpu.fault == 0:
        image.ip = system_load(cpu, op, base + (TSS32_EIP if wide else TSS16_IP), size)
    if cpu.fault == 0:
        image.flags = system_load(cpu, op, base + (TSS32_EFLAGS if wide else TSS16_FLAGS), size)
    for index in range(8):
        if cpu.fault == 0:
            image.registers[index] = system_load(
                cpu, op, base + (TSS32_REGISTERS if wide else TSS16_REGISTERS) + index * size, size)
    for index in range(6):
        if cpu.fault == 0 and (wide or index < SEG_FS):
            image.segments[index] = <uint16_t>system_load(
                cpu, op, base + (TSS32_SEGMENTS if wide else TSS16_SEGMENTS) + index * size, 2)
    if cpu.fault == 0:
        image.ldt = <uint16_t>system_load(cpu, op, base + (TSS32_LDT if wide else TSS16_LDT), 2)
    if wide and cpu.fault == 0:
        image.trap = system_load(cpu, op, base + TSS32_TRAP, 2) & 1
    return cpu.fault == 0


cdef bint save_image(Cpu *cpu, Op *op, uint64_t base, bint wide, uint64_t ip, uint64_t flags) noexcept nogil:
    cdef uint32_t index
    cdef uint32_t size = 4 if wide else 2
    system_store(cpu, op, base + (TSS32_EIP if wide else TSS16_IP), size, ip)
    if cpu.fault == 0:
        system_store(cpu, op, base + (TSS32_EFLAGS if wide else TSS16_FLAGS), size, flags)
    for index in range(8):
        if cpu.fault == 0:
            system_store(cpu, op, base + (TSS32_REGISTERS if wide else TSS16_REGISTERS) + index * size, size,
                         cpu.r[index])
    for index in range(6 if wide else 4):
        if cpu.fault == 0:
            system_store(cpu, op, base + (TSS32_SEGMENTS if wide else TSS16_SEGMENTS) + index * size, 2,
                         cpu.seg[index].selector)
    return cpu.fault == 0


cdef bint set_busy(Cpu *cpu, Op *op, uint32_t selector, bint busy) noexcept nogil:
    cdef uint64_t at = cpu.gdtr.base + (selector & 0xfff8) + 5
    cdef uint64_t access = system_load(cpu, op, at, 1)
    if cpu.fault == 0:
        system_store(cpu, op, at, 1, access | TYPE_BUSY if busy else access & ~<uint64_t>TYPE_BUSY)
    return cpu.fault == 0


cdef bint fetch_tss(Cpu *cpu, Op *op, uint32_t selector, uint32_t kind, uint32_t ext, uint64_t *raw) noexcept nogil:
    cdef uint32_t vector = VEC_TS if kind == SWITCH_RETURN else VEC_GP
    cdef uint32_t type
    cdef Segment tss
    if selector & 4:
        fault(cpu, op, vector, (selector & 0xfffc) | ext)
        return False
    if not fetch_descriptor(cpu, op, selector, vector, ext, raw):
        return False
    type = descriptor_access(raw[0]) & (AR_S | AR_TYPE)
    if type & ~(TYPE_32 | TYPE_BUSY) != TYPE_TSS16 or (type & TYPE_BUSY != 0) != (kind == SWITCH_RETURN):
        fault(cpu, op, vector, (selector & 0xfffc) | ext)
        return False
    if not descriptor_access(raw[0]) & AR_P:
        fault(cpu, op, VEC_NP, (selector & 0xfffc) | ext)
        return False
    set_from_descriptor(&tss, selector, raw[0])
    if tss.limit < (TSS32_LAST if type & TYPE_32 else TSS16_LAST):
        fault(cpu, op, VEC_TS, (selector & 0xfffc) | ext)
        return False
    return True


# The switch happens after the exit handler has returned, unless it raised an error or injected an exception.
cdef bint pass_task_switch_exit(Cpu *cpu, Op *op, uint32_t selector, uint32_t kind) noexcept nogil:
    cdef ExitOutcome outcome
    if not cpu.controls & CTL_TASK_SWITCH:
        return True
    describe_exit(cpu, selector, 0, 0, False, <uint64_t>kind << 30 | <uint16_t>selector)
    if op != NULL:
        cpu.rip = op.ip
        cpu.exit.length = op.len
    outcome = event_exit(cpu, EXIT_REASON_TASK_SWITCH)
    return outcome == EXIT_DONE or outcome == EXIT_MOVED


cdef bint switch_task(Cpu *cpu, Op *op, uint32_t selector, uint32_t kind, uint32_t ext, uint64_t return_ip,
                      uint64_t flags) noexcept nogil:
    cdef uint64_t raw = 0
    cdef uint32_t old_selector = cpu.seg[SEG_TR].selector
    cdef uint32_t index
    cdef bint wide, old_wide = cpu.seg[SEG_TR].access & TYPE_32 != 0
    cdef Segment tss
    cdef TaskImage image
    if not fetch_tss(cpu, op, selector, kind, ext, &raw) or not pass_task_switch_exit(cpu, op, selector, kind):
        return False
    set_from_descriptor(&tss, selector, raw)
    wide = tss.access & TYPE_32 != 0
    if not load_image(cpu, op, tss.base, wide, &image):
        return False
    if kind == SWITCH_RETURN:
        flags &= ~<uint64_t>FL_NT
    if not save_image(cpu, op, cpu.seg[SEG_TR].base, old_wide, return_ip, flags):
        return False
    # Read earlier for its faults, and again now: if it is the same task, its state has just been saved.
    if not load_image(cpu, op, tss.base, wide, &image):
        return False
    if kind == SWITCH_JUMP or kind == SWITCH_RETURN:
        if not set_busy(cpu, op, old_selector, False):
            return False
    if kind != SWITCH_RETURN:
        if not set_busy(cpu, op, selector, True):
            return False
        tss.access |= TYPE_BUSY
    if kind == SWITCH_CALL or kind == SWITCH_INTERRUPT:
        system_store(cpu, op, tss.base, 2, old_selector)
        if cpu.fault:
            return False
        image.flags |= FL_NT
    # From here on faults are the new task's.
    cpu.seg[SEG_TR] = tss
    cpu.cr0 |= CR0_TS
    cpu.dr[7] &= ~<uint64_t>DR7_LOCAL_ENABLES
    cpu.rip = image.ip
    for index in range(8):
        if wide:
            set32(cpu, 8 * index, <uint32_t>image.registers[index])
        else:
            set16(cpu, 8 * index, <uint16_t>image.registers[index])
    set_arithmetic_flags(cpu, image.flags)
    cpu.rflags = (image.flags & (0x3f7fd5 if wide else 0x7fd5) & ~<uint64_t>FL_ARITH) | 2
    leave_level(cpu, op)
    if not enter_task(cpu, &image, wide, ext):
        if op != NULL:
            account(cpu, op)  # the instruction that switched has ended
        return False
    return True


cdef bint enter_task(Cpu *cpu, TaskImage *image, bint wide, uint32_t ext) noexcept nogil:
    cdef uint32_t index
    cdef bint done
    for index in range(6):
        set_null(&cpu.seg[index], image.segments[index])
    set_null(&cpu.seg[SEG_LDTR], image.ldt)
    if wide and cpu.cr0 & CR0_PG:
        if cpu.cr4 & CR4_PAE and not load_pdptes(cpu, image.cr3):
            fault(cpu, NULL, VEC_TS, (cpu.seg[SEG_TR].selector & 0xfffc) | ext)
            return False
        cpu.cr3 = image.cr3
        flush_tlb(cpu, False)
    done = load_task_ldt(cpu, image.ldt, ext) and load_task_segments(cpu, image, ext)
    update_mode(cpu)
    if not done:
        return False
    if image.ip > cpu.seg[SEG_CS].limit:
        fault(cpu, NULL, VEC_GP, ext)
        return False
    if image.trap:
        cpu.dr6_pending |= DR6_TASK_SWITCH
        cpu.pending |= PEND_TRAP
    return True


cdef bint load_task_ldt(Cpu *cpu, uint32_t selector, uint32_t ext) noexcept nogil:
    cdef uint64_t raw = 0
    if not selector & 0xfffc:
        return True
    if selector & 4:
        fault(cpu, NULL, VEC_TS, (selector & 0xfffc) | ext)
        return False
    if not fetch_descriptor(cpu, NULL, selector, VEC_TS, ext, &raw):
        return False
    if descriptor_access(raw) & (AR_S | AR_TYPE | AR_P) != (TYPE_LDT | AR_P):
        fault(cpu, NULL, VEC_TS, (selector & 0xfffc) | ext)
        return False
    set_from_descriptor(&cpu.seg[SEG_LDTR], selector, raw)
    return True


# SS first: the others are checked against its privilege level.
cdef uint32_t[5] DATA_SEGMENTS = [SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS]


cdef bint load_task_segments(Cpu *cpu, TaskImage *image, uint32_t ext) noexcept nogil:
    cdef uint32_t selector = image.segments[SEG_CS]
    cdef uint32_t index, access, dpl
    cdef uint64_t raw = 0
    cdef Segment code
    if cpu.rflags & FL_VM:
        cpu.cpl = 3
        for index in range(6):
            set_v86(&cpu.seg[index], image.segments[index])
        return True
    cpu.cpl = selector & 3
    if not selector & 0xfffc:
        fault(cpu, NULL, VEC_TS, ext)
        return False
    if not fetch_descriptor(cpu, NULL, selector, VEC_TS, ext, &raw):
        return False
    access = descriptor_access(raw)
    dpl = descriptor_dpl(raw)
    if not is_code(access) or (dpl > cpu.cpl if is_conforming(access) else dpl != cpu.cpl):
        fault(cpu, NULL, VEC_TS, (selector & 0xfffc) | ext)
        return False
    if not access & AR_P:
        fault(cpu, NULL, VEC_NP, (selector & 0xfffc) | ext)
        return False
    set_from_descriptor(&code, selector, raw)
    if not mark_accessed(cpu, NULL, &code):
        return False
    cpu.seg[SEG_CS] = code
    for index in range(5):
        if not load_protected(cpu, NULL, DATA_SEGMENTS[index], image.segments[DATA_SEGMENTS[index]], VEC_TS, ext):
            return False
    return True


cdef bint io_permitted(Cpu *cpu, Op *op, uint32_t port, uint32_t width) noexcept nogil:
    cdef Segment *tr = &cpu.seg[SEG_TR]
    cdef uint64_t at, bits
    if tr.access & TYPE_32 and tr.limit >= TSS32_LAST:
        at = system_load(cpu, op, tr.base + TSS32_IO_MAP, 2)
        if cpu.fault:
            return False
        at += port >> 3
        if at + 1 <= tr.limit:
            bits = system_load(cpu, op, tr.base + at, 2)
            if cpu.fault:
                return False
            if not (bits >> (port & 7)) & ((1 << width) - 1):
                return True
    fault(cpu, op, VEC_GP, 0)
    return False
