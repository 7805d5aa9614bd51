# cython: language_level=3
"""IN, OUT, INS, OUTS. Ports whose bits are set in the I/O bitmap exit; at the others there is nothing."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from hvmx.core.state.insn cimport FORM_NONE, FORM_RM, FORM_RM_I
from hvmx.core.exit.door cimport describe_exit, instruction_exit
from hvmx.core.execute.integer.flags cimport iopl
from hvmx.core.memory.mmu cimport *
from hvmx.core.memory.segmentation cimport linear
from hvmx.core.state.ops cimport *
from hvmx.core.state.state cimport *
from hvmx.core.execute.system.task cimport io_permitted

# Exit qualification (SDM vol. 3, table 27-5).
cdef enum:
    QUALIFY_IN = 8
    QUALIFY_STRING = 16
    QUALIFY_REP = 32
    QUALIFY_IMMEDIATE = 64


cdef bint port_allowed(Cpu *cpu, Op *op, uint32_t port, uint32_t size) noexcept nogil:
    if cpu.cr0 & CR0_PE and (cpu.cpl > iopl(cpu) or cpu.rflags & FL_VM):
        return io_permitted(cpu, op, port, size)
    return True


cdef inline bint port_exits(Cpu *cpu, uint32_t port, uint32_t size) noexcept nogil:
    cdef uint32_t index
    for index in range(port, port + size):
        if index > 0xffff or (cpu.io_bitmap[index >> 3] >> (index & 7)) & 1:
            return True
    return False


# One transfer. The value read is in cpu.exit.value; `linear_address` is that of INS or OUTS. Accounts for it, and moves
# cpu.rip on. False: fault or abort.
cdef bint transfer(Cpu *cpu, Op *op, uint32_t port, uint32_t size, bint is_write, uint64_t value, uint64_t how,
                   uint64_t linear_address) noexcept nogil:
    cdef uint64_t ones = ~<uint64_t>0 >> (64 - 8 * size)
    describe_exit(cpu, port, value & ones if is_write else ones, size, is_write,
                  (size - 1) | how | (0 if is_write else QUALIFY_IN) | <uint64_t>port << 16)
    cpu.exit.linear = linear_address
    if port_exits(cpu, port, size):
        if instruction_exit(cpu, op, EXIT_REASON_IO_INSTRUCTION) != EXIT_DONE:
            return False
    else:
        leave(cpu, op)
    if cpu.cr4 & CR4_DE and cpu.dr[7] & 0xff:
        check_breakpoints(cpu, port, size, BREAK_ON_PORT)
    cpu.exit.value &= ones
    return True


cdef void read_port(Cpu *cpu, Op *op, uint32_t port, uint64_t how) noexcept nogil:
    cdef uint32_t size = operand_bytes(op)
    if not port_allowed(cpu, op, port, size) or not transfer(cpu, op, port, size, False, 0, how, 0):
        return
    if size == 1:
        set8(cpu, 8 * REG_RAX, <uint8_t>cpu.exit.value)
    elif size == 2:
        set16(cpu, 8 * REG_RAX, <uint16_t>cpu.exit.value)
    else:
        set32(cpu, 8 * REG_RAX, <uint32_t>cpu.exit.value)


cdef void write_port(Cpu *cpu, Op *op, uint32_t port, uint64_t how) noexcept nogil:
    cdef uint32_t size = operand_bytes(op)
    if port_allowed(cpu, op, port, size):
        transfer(cpu, op, port, size, True, cpu.r[REG_RAX], how, 0)


cdef void in_i(Cpu *cpu, Op *op) noexcept nogil:
    read_port(cpu, op, <uint8_t>op.imm, QUALIFY_IMMEDIATE)


cdef void in_dx(Cpu *cpu, Op *op) noexcept nogil:
    read_port(cpu, op, <uint16_t>cpu.r[REG_RDX], 0)


cdef void out_i(Cpu *cpu, Op *op) noexcept nogil:
    write_port(cpu, op, <uint8_t>op.imm, QUALIFY_IMMEDIATE)


cdef void out_dx(Cpu *cpu, Op *op) noexcept nogil:
    write_port(cpu, op, <uint16_t>cpu.r[REG_RDX], 0)


# --- INS and OUTS ---------------------------------------------------------------------------------------------------------
cdef inline void set_within(Cpu *cpu, uint32_t register, uint64_t value, uint64_t mask) noexcept nogil:
    """Write a register by the address size: 16 bits merge, 32 zero-extend."""
    if mask == 0xffff:
        set16(cpu, 8 * register, <uint16_t>value)
    else:
        cpu.r[register] = value & mask


# Permission is checked even if REP has a count of 0, as on processors. Each iteration is run like an instruction of
# its own, so that interrupts, exits and the end of a slice may come between any two.
cdef void finish_iteration(Cpu *cpu, Op *op, uint32_t pointer, uint32_t size, uint64_t mask) noexcept nogil:
    cdef int64_t step = -<int64_t>size if cpu.rflags & FL_DF else <int64_t>size
    set_within(cpu, pointer, cpu.r[pointer] + <uint64_t>step, mask)
    if is_repeated(op):
        set_within(cpu, REG_RCX, cpu.r[REG_RCX] - 1, mask)
        if cpu.r[REG_RCX] & mask:
            cpu.rip = op.ip
            cpu.rflags |= FL_RF  # pushed by an interrupt that arrives now (SDM vol. 3, 17.3.1.1)


cdef void ins(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint32_t size = operand_bytes(op)
    cdef uint32_t port = <uint16_t>cpu.r[REG_RDX]
    cdef uint64_t mask = address_mask(op)
    cdef uint64_t at
    if not port_allowed(cpu, op, port, size):
        return
    if is_repeated(op) and not cpu.r[REG_RCX] & mask:
        leave(cpu, op)
        return
    at = linear(cpu, op, SEG_ES, cpu.r[REG_RDI] & mask, size, True)
    if cpu.fault or not probe_write(cpu, op, at, size):
        return
    cpu.ea = at
    if not transfer(cpu, op, port, size, False, 0, QUALIFY_STRING | (QUALIFY_REP if is_repeated(op) else 0), at):
        return
    # Its memory has been checked to be writable: this can only fail in an exit of the write itself.
    store_slow(cpu, NULL, at, size, cpu.exit.value)
    finish_iteration(cpu, op, REG_RDI, size, mask)


cdef void outs(Cpu *cpu, Op *op) noexcept nogil:
    cdef uint32_t size = operand_bytes(op)
    cdef uint32_t port = <uint16_t>cpu.r[REG_RDX]
    cdef uint64_t mask = address_mask(op)
    cdef uint64_t at, value
    if not port_allowed(cpu, op, port, size):
        return
    if is_repeated(op) and not cpu.r[REG_RCX] & mask:
        leave(cpu, op)
        return
    at = linear(cpu, op, op.seg, cpu.r[REG_RSI] & mask, size, False)
    if cpu.fault:
        return
    value = load_slow(cpu, op, at, size)
    if cpu.fault:
        return
    if transfer(cpu, op, port, size, True, value, QUALIFY_STRING | (QUALIFY_REP if is_repeated(op) else 0), at):
        finish_iteration(cpu, op, REG_RSI, size, mask)


register_handler("in", FORM_RM_I, 0, ADDRESS_NONE, in_i)
register_handler("in", FORM_RM, 0, ADDRESS_NONE, in_dx)
register_handler("out", FORM_RM_I, 0, ADDRESS_NONE, out_i)
register_handler("out", FORM_RM, 0, ADDRESS_NONE, out_dx)
register_handler("ins", FORM_NONE, 0, ADDRESS_NONE, ins)
register_handler("outs", FORM_NONE, 0, ADDRESS_NONE, outs)
