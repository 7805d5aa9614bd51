# cython: language_level=3
"""Segment descriptors, and the loading of segment registers (SDM vol. 3, chapters 3 and 5)."""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.state.state cimport *

# Types of system descriptors (SDM vol. 3, table 3-2).
cdef enum:
    TYPE_TSS16 = 1
    TYPE_LDT = 2
    TYPE_CALL_GATE16 = 4
    TYPE_TASK_GATE = 5
    TYPE_INTERRUPT_GATE16 = 6
    TYPE_TRAP_GATE16 = 7
    TYPE_TSS32 = 9           # and the 64-bit one
    TYPE_CALL_GATE32 = 12    # and the 64-bit one
    TYPE_INTERRUPT_GATE32 = 14
    TYPE_TRAP_GATE32 = 15
    TYPE_BUSY = 2            # added to the type of an available TSS
    TYPE_32 = 8              # set in the types of 32-bit gates

# --- fields of a descriptor -----------------------------------------------------------------------------------------------
cdef inline uint32_t descriptor_access(uint64_t raw) noexcept nogil:
    """AR_* of a descriptor."""
    return <uint32_t>((raw >> 40) & 0xf0ff)


cdef inline uint32_t descriptor_dpl(uint64_t raw) noexcept nogil:
    return <uint32_t>(raw >> 45) & 3


cdef inline uint64_t gate_offset(uint64_t raw) noexcept nogil:
    return (raw & 0xffff) | ((raw >> 32) & <uint64_t>0xffff0000)


cdef inline uint32_t gate_selector(uint64_t raw) noexcept nogil:
    return <uint32_t>(raw >> 16) & 0xffff


cdef inline bint is_code(uint32_t access) noexcept nogil:
    return access & (AR_S | 8) == (AR_S | 8)


cdef inline bint is_conforming(uint32_t access) noexcept nogil:
    return access & 4


cdef inline bint is_writable_data(uint32_t access) noexcept nogil:
    return access & (AR_S | 8 | 2) == (AR_S | 2)


cdef inline bint real_or_v86(Cpu *cpu) noexcept nogil:
    return not cpu.cr0 & CR0_PE or cpu.rflags & FL_VM


cdef inline bint canonical(uint64_t address) noexcept nogil:
    return (address + (<uint64_t>1 << 47)) >> 48 == 0


# Is an access of `size` bytes within the segment? Checks limits only; expand-down segments as in SDM vol. 3, 5.3.
cdef bint within_limit(Segment *seg, uint64_t offset, uint32_t size) noexcept nogil
# What a descriptor makes of a segment register.
cdef void set_from_descriptor(Segment *seg, uint32_t selector, uint64_t raw) noexcept nogil
cdef void set_null(Segment *seg, uint32_t selector) noexcept nogil
cdef void set_v86(Segment *seg, uint32_t selector) noexcept nogil

# --- descriptor tables ------------------------------------------------------------------------------------------------------
# The address of a selector's descriptor. False if it is beyond the table's limit, or there is no LDT. `size`: 8 or 16.
cdef bint descriptor_address(Cpu *cpu, uint32_t selector, uint32_t size, uint64_t *address) noexcept nogil
# Its first 8 bytes. Beyond the limit it raises `vector`, with the selector and `ext` as error code. False on any fault.
cdef bint fetch_descriptor(Cpu *cpu, Op *op, uint32_t selector, uint32_t vector, uint32_t ext,
                           uint64_t *raw) noexcept nogil
# Bits 32-63 of the base or offset of a 16-byte descriptor of long mode.
cdef bint fetch_upper(Cpu *cpu, Op *op, uint32_t selector, uint32_t vector, uint32_t ext, uint64_t *upper) noexcept nogil
# Set the accessed bit in memory and in `raw`. False on a fault.
cdef bint mark_accessed(Cpu *cpu, Op *op, Segment *seg) noexcept nogil

# --- segment registers --------------------------------------------------------------------------------------------------------
# Load ES, SS, DS, FS or GS in any mode; False on a fault, with nothing changed.
cdef bint load_segment(Cpu *cpu, Op *op, uint32_t segment, uint32_t selector) noexcept nogil
# The same in protected mode. Faults raise `vector` (#GP, or #TS in a task switch), with `ext` in the error code. The
# caller must call update_mode().
cdef bint load_protected(Cpu *cpu, Op *op, uint32_t segment, uint32_t selector, uint32_t vector,
                         uint32_t ext) noexcept nogil
# The checks of a stack segment for privilege level `cpl`. Faults raise `vector` (#GP or #TS) with `ext`.
cdef bint check_stack_segment(Cpu *cpu, Op *op, uint32_t selector, uint32_t cpl, uint32_t vector, uint32_t ext,
                              uint64_t *raw) noexcept nogil
# A far pointer in memory: an offset of the operand's width, then the selector. False on a fault.
cdef bint read_far_pointer(Cpu *cpu, Op *op, uint32_t *selector, uint64_t *offset) noexcept nogil
# After a return to an outer level: data segments that it may not use become null (SDM vol. 3, 5.8.6).
cdef void drop_inner_segments(Cpu *cpu) noexcept nogil
