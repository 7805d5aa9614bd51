# cython: language_level=3
"""Linear memory: the software TLB's fast path, and the slow paths behind it. What costs guest time is in tlb.pxd.

After a load or store that faults, or whose exit handler raises an error, `cpu.fault` is set, and the caller must return
at once. `op` is the operation that accesses memory: a fault leaves the state of before its instruction. It is NULL for
accesses that no decoded operation makes, as in interrupt delivery.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from hvmx.core.state.state cimport *


cdef inline TlbEntry *tlb_entry(Cpu *cpu, uint64_t address) noexcept nogil:
    return &cpu.tlb[(address >> 12) & (TLB_ENTRIES - 1)]


# The page of the *last* byte is compared: so an access that crosses into the next page misses, and one that wraps, too.
cdef inline bint hit_read(TlbEntry *entry, uint64_t address, uint64_t size) noexcept nogil:
    return LIKELY(((address + size - 1) & ~<uint64_t>0xfff) == entry.r)


cdef inline bint hit_write(TlbEntry *entry, uint64_t address, uint64_t size) noexcept nogil:
    return LIKELY(((address + size - 1) & ~<uint64_t>0xfff) == entry.w)


cdef inline uint8_t *host(TlbEntry *entry, uint64_t address) noexcept nogil:
    return <uint8_t *>(address + <uint64_t>entry.addend)


# Slow paths: page crossing, TLB miss, MMIO, ROM, pages with decoded code, watched pages. `size` is 1, 2, 4 or 8.
cdef uint64_t load_slow(Cpu *cpu, Op *op, uint64_t address, uint32_t size) noexcept nogil
cdef void store_slow(Cpu *cpu, Op *op, uint64_t address, uint32_t size, uint64_t value) noexcept nogil
# Read-modify-write: checks that the operand is writable, then loads it: &cpu.rmw_value, or NULL on a fault.
cdef uint8_t *rmw_slow(Cpu *cpu, Op *op, uint64_t address, uint32_t size) noexcept nogil


cdef inline uint8_t load8(Cpu *cpu, Op *op, uint64_t address) noexcept nogil:
    cdef TlbEntry *entry = tlb_entry(cpu, address)
    if hit_read(entry, address, 1):
        return host(entry, address)[0]
    return <uint8_t>load_slow(cpu, op, address, 1)


cdef inline uint16_t load16(Cpu *cpu, Op *op, uint64_t address) noexcept nogil:
    cdef TlbEntry *entry = tlb_entry(cpu, address)
    if hit_read(entry, address, 2):
        return (<uint16_t *>host(entry, address))[0]
    return <uint16_t>load_slow(cpu, op, address, 2)


cdef inline uint32_t load32(Cpu *cpu, Op *op, uint64_t address) noexcept nogil:
    cdef TlbEntry *entry = tlb_entry(cpu, address)
    if hit_read(entry, address, 4):
        return (<uint32_t *>host(entry, address))[0]
    return <uint32_t>load_slow(cpu, op, address, 4)


cdef inline uint64_t load64(Cpu *cpu, Op *op, uint64_t address) noexcept nogil:
    cdef TlbEntry *entry = tlb_entry(cpu, address)
    if hit_read(entry, address, 8):
        return (<uint64_t *>host(entry, address))[0]
    return load_slow(cpu, op, address, 8)


cdef inline void store8(Cpu *cpu, Op *op, uint64_t address, uint8_t value) noexcept nogil:
    cdef TlbEntry *entry = tlb_entry(cpu, address)
    if hit_write(entry, address, 1):
        host(entry, address)[0] = value
    else:
        store_slow(cpu, op, address, 1, value)


cdef inline void store16(Cpu *cpu, Op *op, uint64_t address, uint16_t value) noexcept nogil:
    cdef TlbEntry *entry = tlb_entry(cpu, address)
    if hit_write(entry, address, 2):
        (<uint16_t *>host(entry, address))[0] = value
    else:
        store_slow(cpu, op, address, 2, value)


cdef inline void store32(Cpu *cpu, Op *op, uint64_t address, uint32_t value) noexcept nogil:
    cdef TlbEntry *entry = tlb_entry(cpu, address)
    if hit_write(entry, address, 4):
        (<uint32_t *>host(entry, address))[0] = value
    else:
        store_slow(cpu, op, address, 4, value)


cdef inline void store64(Cpu *cpu, Op *op, uint64_t address, uint64_t value) noexcept nogil:
    cdef TlbEntry *entry = tlb_entry(cpu, address)
    if hit_write(entry, address, 8):
        (<uint64_t *>host(entry, address))[0] = value
    else:
        store_slow(cpu, op, address, 8, value)


# Where a read-modify-write reads and writes its operand; NULL on a fault. rmw_commit(), with the same arguments, ends
# it.
cdef inline uint8_t *rmw(Cpu *cpu, Op *op, uint64_t address, uint32_t size) noexcept nogil:
    cdef TlbEntry *entry = tlb_entry(cpu, address)
    if hit_write(entry, address, size):
        return host(entry, address)
    return rmw_slow(cpu, op, address, size)


cdef inline void rmw_commit(Cpu *cpu, Op *op, uint64_t address, uint32_t size, uint8_t *pointer) noexcept nogil:
    if UNLIKELY(pointer == <uint8_t *>&cpu.rmw_value):
        store_slow(cpu, op, address, size, cpu.rmw_value)


# Implicit supervisor-mode accesses: descriptor tables, IDT, task-state segments (SDM vol. 3, 4.6).
cdef uint64_t system_load(Cpu *cpu, Op *op, uint64_t address, uint32_t size) noexcept nogil
cdef void system_store(Cpu *cpu, Op *op, uint64_t address, uint32_t size, uint64_t value) noexcept nogil
# The software TLB (TLB_*) of accesses with the rights of a privilege level.
cdef uint32_t kind_of(Cpu *cpu, uint32_t cpl) noexcept nogil
# Accesses with the rights of another privilege level than CPL: to the stack of an inner or outer level.
cdef uint64_t load_as(Cpu *cpu, Op *op, uint32_t cpl, uint64_t address, uint32_t size) noexcept nogil
cdef void store_as(Cpu *cpu, Op *op, uint32_t cpl, uint64_t address, uint32_t size, uint64_t value) noexcept nogil
# CLFLUSH: faults as a load of one byte would.
cdef void flush_line(Cpu *cpu, Op *op, uint64_t address) noexcept nogil
# Would a write (read) of `size` bytes succeed? If not, cpu.fault is set. Changes nothing but accessed and dirty bits.
cdef bint probe_write(Cpu *cpu, Op *op, uint64_t address, uint32_t size) noexcept nogil
cdef bint probe_read(Cpu *cpu, Op *op, uint64_t address, uint32_t size) noexcept nogil

# Invalidation, as by MOV CR3 and INVLPG: in the model of the TLBs, in the software TLB and in the jump cache. Without
# `all`, flush_tlb() keeps global pages and those of other PCIDs.
cdef void flush_tlb(Cpu *cpu, bint all) noexcept nogil
cdef void flush_page(Cpu *cpu, uint64_t address) noexcept nogil
# Software TLB and jump cache only: when other rights, another PCID or other breakpoints count. It costs the guest nothing.
cdef void drop_translations(Cpu *cpu, bint all) noexcept nogil
cdef void drop_page(Cpu *cpu, uint64_t address) noexcept nogil  # and, of the jump cache, what the model has dropped

# Breakpoints of these conditions (a bit for each value of the R/W field) on `size` bytes or ports: pends a debug trap.
cdef enum:
    BREAK_ON_READ = 1 << 3
    BREAK_ON_WRITE = 1 << 1 | 1 << 3
    BREAK_ON_PORT = 1 << 2
cdef void check_breakpoints(Cpu *cpu, uint64_t address, uint32_t size, uint32_t conditions) noexcept nogil

# Guest-physical memory, by its host address; NULL where there is neither RAM nor ROM.
cdef uint8_t *physical(Cpu *cpu, uint64_t address) noexcept nogil
cdef uint64_t physical_load(Cpu *cpu, uint64_t address, uint32_t size) noexcept nogil
cdef void physical_store(Cpu *cpu, uint64_t address, uint32_t size, uint64_t value) noexcept nogil
# The guest-physical page that code at a linear address is fetched from, and in Cpu.code_slot what entry of the
# instruction TLB holds it; False on a fault.
cdef bint fetch_page(Cpu *cpu, uint64_t address, uint64_t *page) noexcept nogil
# Take cpu.exit, filled in but for the reason, to its handler. False: cpu.fault is set, the instruction is to be aborted.
cdef bint memory_exit(Cpu *cpu, Op *op, uint32_t reason) noexcept nogil
