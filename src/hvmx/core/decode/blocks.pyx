# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from hvmx.core.execute.integer.auxiliary cimport *
from hvmx.core.execute.integer.branch cimport call_handler, jcc_handler, jump_handler
from hvmx.core.memory.codecache cimport allocate_block, chunk_mask, drop_block, find_block, insert_block
from hvmx.core.decode.decoder cimport *
from hvmx.core.generated.families cimport *
from hvmx.core.memory.mmu cimport *
from hvmx.core.state.insn cimport *
from hvmx.core.state.ops cimport *
from hvmx.core.state.state cimport *
from hvmx.core.translate.translator cimport watch_block

cdef extern from "insn.h" nogil:
    enum:
        REG_MMX

cdef enum:
    BLOCK_INSTRUCTIONS = 64
    OPS_PER_INSTRUCTION = 3   # guard, address, operation
    JUMPS_PER_BLOCK = 6       # conditional branches in a block
    FOLLOWED_JUMPS = 4        # unconditional ones that decoding follows


# --- from instructions to operations ------------------------------------------------------------------------------------
cdef inline uint32_t size_index(uint32_t bits) noexcept nogil:
    return 0 if bits == 8 else 1 if bits == 16 else 2 if bits == 32 else 3


cdef inline bint flat_segment(Cpu *cpu, uint32_t segment) noexcept nogil:
    """Can this segment's base and checks be left out in this mode?"""
    if cpu.mode & MODE_WIDTH == MODE_64:
        return segment < SEG_FS
    if segment == SEG_DS:
        return cpu.mode & MODE_FLAT_DS
    if segment == SEG_ES:
        return cpu.mode & MODE_FLAT_ES
    if segment == SEG_SS:
        return cpu.mode & MODE_FLAT_SS
    return False


cdef inline uint32_t stack_kind(Cpu *cpu) noexcept nogil:
    if cpu.mode & MODE_WIDTH == MODE_64:
        return ADDRESS_64
    if cpu.mode & MODE_STACK32 and cpu.mode & MODE_FLAT_SS:
        return ADDRESS_32
    return ADDRESS_EA


cdef inline void place_memory(Op *op, Insn *insn, uint64_t ip) noexcept nogil:
    op.b = 8 * insn.base
    op.i = 8 * insn.index
    op.scale = insn.scale
    op.disp = insn.disp
    op.seg = insn.segment
    if insn.rip_relative:
        op.disp += <int64_t>(ip + insn.length)
        if insn.addrsize == 32:
            op.disp = <uint32_t>op.disp


cdef inline void place_operands(Op *op, Insn *insn, bint numbered) noexcept nogil:
    """Register operands: d is the destination, s the source (see the conventions of insn.h's forms)."""
    cdef uint8_t reg = insn.reg if numbered else insn.reg_offset
    if insn.form == FORM_R_RM or insn.form == FORM_R_RM_I:
        op.d = reg
        op.s = insn.rm_offset
    elif insn.form == FORM_R:
        op.d = reg
    else:
        op.d = insn.rm_offset
        op.s = reg


cdef inline bint in_same_page(Cpu *cpu, uint64_t ip, uint64_t target) noexcept nogil:
    """Do both lie in one page of linear memory? (The base of CS need not be the start of one.)"""
    cdef uint64_t base = 0 if cpu.mode & MODE_WIDTH == MODE_64 else cpu.seg[SEG_CS].base
    return ((ip + base) ^ (target + base)) >> 12 == 0


cdef OpFn guard_of_unit(const InsnRow *row) noexcept nogil:
    """What has to come before a look at the memory operand of an x87, MMX or SSE instruction."""
    if row.flags & ROW_X87:
        return guard_x87 if row.flags & ROW_X87_NO_WAIT else guard_x87_waiting
    if row.reg_source == REG_MMX:
        return guard_sse_and_mmx if row.flags & ROW_SSE else guard_mmx
    return guard_sse


cdef Op *operations_of(Cpu *cpu, Insn *insn, Op *op, uint64_t ip, uint64_t acct_before) noexcept nogil:
    """Writes the operations of one instruction at `op`; returns the place after them."""
    cdef const InsnRow *row = row_of(insn)
    cdef uint32_t bank = FORM_MMX if row.flags & ROW_MMX else 0
    cdef uint32_t family = insn.family, form = insn.form + bank, width = insn.opsize, address = ADDRESS_NONE
    cdef uint32_t bytes
    cdef uint64_t target
    cdef bint same_page, bad
    cdef OpFn fn = NULL
    cdef OpFn base_fn
    cdef OpFn address_fn
    cdef uint64_t cost = cpu.op_cost[insn.cost]
    if insn.is_mem:
        if row.flags & ROW_MEM_READ:
            cost += cpu.op_cost[COST_LOAD]
        if row.flags & ROW_MEM_WRITE:
            cost += cpu.op_cost[COST_STORE]
    if insn.prefixes & PREFIX_LOCK or insn.is_mem and row.flags & ROW_LOCKED:
        cost += cpu.op_cost[COST_LOCKED]
    cdef uint64_t acct = acct_before + (cost << ACCT_SHIFT) + 1

    if row.flags & (ROW_CPL0 | ROW_PROTECTED):
        memset(op, 0, sizeof(Op))
        op.fn = guard
        op.imm = row.flags
        op.len = insn.length
        op.ip = ip
        op.acct = acct_before
        op += 1

    if insn.form == FORM_R_RM and insn.opsize2 < insn.opsize and insn.opsize2 <= 32:
        form = bank + (FORM_R_RM8 if insn.opsize2 == 8 else FORM_R_RM16 if insn.opsize2 == 16 else FORM_R_RM32)
        if handler_of(family, form, width, ADDRESS_NONE) == NULL and handler_of(family, form, width, ADDRESS_EA) == NULL:
            form = bank + FORM_R_RM
    bytes = (insn.opsize2 if insn.form == FORM_R_RM or insn.form == FORM_R_RM_I else insn.opsize) // 8
    if bytes == 10:
        bytes = 8  # the handler looks at the other two

    if row.flags & ROW_STACK:
        address = stack_kind(cpu)
        if insn.is_mem:
            form = FORM_STACK_M
        fn = handler_of(family, form, width, address)
    elif insn.is_mem:
        if row.flags & ROW_UNACCESSED:
            address = ADDRESS_EA if insn.addrsize == 16 else ADDRESS_32 if insn.addrsize == 32 else ADDRESS_64
        elif flat_segment(cpu, insn.segment):
            if cpu.mode & MODE_WIDTH == MODE_64:
                address = ADDRESS_64 if insn.addrsize == 64 else ADDRESS_EA
            else:
                address = ADDRESS_32 if insn.addrsize == 32 else ADDRESS_EA
        else:
            address = ADDRESS_EA
        fn = handler_of(family, form, width, address)
        if insn.index == REG_ZERO and (address == ADDRESS_32 or address == ADDRESS_64):
            base_fn = handler_of(family, form, width, ADDRESS_BASE_32 if address == ADDRESS_32 else ADDRESS_BASE_64)
            if base_fn != NULL:
                fn = base_fn
        if fn == NULL and not row.flags & ROW_UNACCESSED:
            address = ADDRESS_EA
            fn = handler_of(family, form, width, address)
        if fn == NULL and not row.flags & (ROW_MEM_READ | ROW_MEM_WRITE):
            address = ADDRESS_NONE
            fn = handler_of(family, form, width, address)
    else:
        fn = handler_of(family, form, width, address)

    if insn.is_mem and fn != NULL and (row.flags & ROW_STACK or address == ADDRESS_EA and not row.flags & ROW_UNACCESSED):
        address_fn = ea_segment
        if row.flags & ROW_LATE_ADDRESS:
            address_fn = ea_offset
        elif flat_segment(cpu, insn.segment) and insn.addrsize == 64:
            address_fn = ea_flat64
        elif flat_segment(cpu, insn.segment) and insn.addrsize == 32:
            address_fn = ea_flat32
        elif row.flags & (ROW_X87 | ROW_SSE | ROW_MMX):
            memset(op, 0, sizeof(Op))
            op.fn = guard_of_unit(row)
            op.len = insn.length
            op.ip = ip
            op.acct = acct_before
            op += 1
        if address_fn == ea_segment and not row.flags & ROW_ALIGNED:
            if cpu.mode & MODE_WIDTH == MODE_64 and insn.addrsize == 64 and insn.segment >= SEG_FS:
                address_fn = ea_based64
            elif cpu.mode & MODE_WIDTH == MODE_32 and insn.addrsize == 32:
                address_fn = ea_based32
        memset(op, 0, sizeof(Op))
        op.fn = address_fn
        place_memory(op, insn, ip)
        if family == FAM_POP and insn.base == REG_RSP:
            op.disp += width // 8  # POP computes such an address after the increment (SDM vol. 2, POP)
        op.x = size_index(insn.addrsize)
        op.imm = bytes | ((row.flags & ROW_MEM_WRITE != 0) << 8) | ((row.flags & ROW_ALIGNED != 0) << 9)
        op.len = insn.length
        op.ip = ip
        op.acct = acct_before
        op += 1

    memset(op, 0, sizeof(Op))
    op.len = insn.length
    op.ip = ip
    op.acct = acct
    op.imm = insn.imm
    op.seg = SEG_SS if row.flags & ROW_STACK else insn.segment
    op.x = size_index(width) | (size_index(insn.addrsize) << 2)
    if insn.prefixes & PREFIX_REP:
        op.x |= 16
    if insn.prefixes & PREFIX_REPNE:
        op.x |= 32
    place_operands(op, insn, row.flags & ROW_NUMBERED != 0)
    if insn.is_mem and (address == ADDRESS_32 or address == ADDRESS_64 or row.flags & ROW_UNACCESSED) and not row.flags & ROW_STACK:
        place_memory(op, insn, ip)
    if form == FORM_I_I:
        op.disp = insn.imm2
    if form == FORM_REL:
        target = ip + insn.length + <uint64_t>insn.imm
        if width == 16:
            target = <uint16_t>target
        elif width == 32:
            target = <uint32_t>target
        op.imm = <int64_t>target
        op.disp = 0
        bad = bad_target(cpu, target)
        same_page = in_same_page(cpu, ip, target)
        if family == FAM_JCC:
            fn = jcc_handler(insn.cc, same_page, bad)
        elif family == FAM_JMP:
            fn = jump_handler(same_page, bad)
        elif family == FAM_CALL:
            fn = call_handler(width, stack_kind(cpu), same_page, bad)
    if row.flags & ROW_CONDITION:
        op.x = insn.cc
    op.fn = fn if fn != NULL else undefined
    return op + 1


cdef void drop_dead_flags(Op **places, Insn *insns, uint32_t count) noexcept nogil:
    """Replace arithmetic by a form that leaves out flags which later instructions overwrite unread.

    Anything that may fault, leave or branch shows the flags: a fault must find them as the program order has them. An
    access to memory comes before the flags of its own instruction, so these may still be left out.
    """
    cdef uint32_t index = count
    cdef uint32_t kills
    cdef uint32_t live = FL_ARITH
    cdef const InsnRow *row
    while index > 0:
        index -= 1
        row = row_of(&insns[index])
        if not row.flags & ROW_PURE and places[index].fn != followed_jump:
            live = FL_ARITH
            continue
        kills = (row.flags_written | row.flags_undefined) & FL_ARITH
        if row.flags & ROW_COUNTED and not insns[index].imm & (63 if insns[index].opsize == 64 else 31):
            kills = 0
        if kills:
            leave_out_flags(places[index], &insns[index], live, kills & live)
        live = live & ~kills | row.flags_read & FL_ARITH
        if insns[index].is_mem and not row.flags & ROW_UNACCESSED:
            live = FL_ARITH


cdef void leave_out_flags(Op *op, Insn *insn, uint32_t live, uint32_t needed) noexcept nogil:
    """`live` flags are read after the instruction, `needed` of them are its own."""
    cdef OpFn shorter = NULL
    cdef uint32_t address
    if not insn.is_mem:
        if not needed:
            shorter = variant_of(insn.family, insn.form, insn.opsize, ADDRESS_NONE, FLAGS_NONE)
        elif live == FL_CF:
            shorter = variant_of(insn.family, insn.form, insn.opsize, ADDRESS_NONE, FLAGS_CARRY)
    elif not needed:
        for address in range(ADDRESS_32, ADDRESS_BASE_64 + 1):
            if op.fn == handler_of(insn.family, insn.form, insn.opsize, address):
                shorter = variant_of(insn.family, insn.form, insn.opsize, address, FLAGS_NONE)
    if shorter != NULL:
        op.fn = shorter


cdef Op *block_at_rip(Cpu *cpu) noexcept nogil:
    cdef uint64_t ip = cpu.rip
    cdef uint64_t linear_ip = ip
    cdef uint64_t page, physical_ip
    cdef uint64_t page2 = 0
    cdef uint32_t mode = cpu.mode
    cdef Block *block
    cdef JumpEntry *jump = jump_entry(cpu, ip)
    cdef uint32_t number
    cdef Op *first
    if jump.key == ip ^ cpu.mode_key and not bad_target(cpu, ip):
        # As code that branches here finds it: when a budget ends makes no difference, not to the TLB either.
        first = jump.op
        if cpu.link_from != NULL:
            if <uint64_t>cpu.link_from.imm == ip:
                cpu.link_from.target = first
            cpu.link_from = NULL
        return first
    if cpu.mode & MODE_WIDTH != MODE_64:
        if ip > cpu.seg[SEG_CS].limit:
            fault(cpu, NULL, VEC_GP, 0)
            return NULL
        linear_ip = <uint32_t>(ip + cpu.seg[SEG_CS].base)
    if not fetch_page(cpu, linear_ip, &page):
        return NULL
    physical_ip = page | (linear_ip & 0xfff)
    block = find_block(cpu, physical_ip, ip, mode)
    if block == NULL:
        block = build(cpu, ip, linear_ip, physical_ip, mode)
        if block == NULL:
            return NULL
    elif block.physical2 != NO_PAGE:
        if not fetch_page(cpu, cross(cpu, linear_ip), &page2):
            return NULL
        if page2 != block.physical2:
            drop_block(cpu, block)  # or there would be one for each page that was ever there
            block = build(cpu, ip, linear_ip, physical_ip, mode)
            if block == NULL:
                return NULL
    first = &block.head + 1
    if cpu.link_from != NULL:
        if block.physical2 == NO_PAGE and <uint64_t>cpu.link_from.imm == ip:
            cpu.link_from.target = first
        cpu.link_from = NULL
    if block.physical2 == NO_PAGE:
        jump.key = ip ^ cpu.mode_key
        jump.op = first
        number = <uint32_t>(jump - cpu.jcache)
        cpu.jumps_used[number >> 6] |= <uint64_t>1 << (number & 63)
    return first


cdef inline uint64_t cross(Cpu *cpu, uint64_t linear_ip) noexcept nogil:
    """The start of the page after that of a linear address."""
    cdef uint64_t after = (linear_ip | 0xfff) + 1
    return after if cpu.mode & MODE_WIDTH == MODE_64 else <uint32_t>after


cdef inline bint repeats(Insn *insn) noexcept nogil:
    return insn.prefixes & (PREFIX_REP | PREFIX_REPNE) and row_of(insn).flags & (ROW_STRING | ROW_ENDS_BLOCK) == ROW_STRING


cdef Block *build(Cpu *cpu, uint64_t ip, uint64_t linear_ip, uint64_t physical_ip, uint32_t mode) noexcept nogil:
    cdef Insn insns[BLOCK_INSTRUCTIONS]
    cdef Op *places[BLOCK_INSTRUCTIONS]
    cdef uint8_t bytes[16]
    cdef const uint8_t *code = physical(cpu, physical_ip)
    cdef const uint8_t *more
    cdef uint8_t nothing[16]
    cdef uint64_t page2 = NO_PAGE
    cdef uint64_t room = 4096 - (physical_ip & 0xfff)   # bytes to the end of the page
    cdef uint64_t left, acct = 0
    cdef uint64_t used = 0                              # how far decoding is from the start, modulo 2^64
    cdef uint64_t chunks = 0                            # of the page: what has been decoded
    cdef uint64_t bytes2 = 0                            # decoded from the second page
    cdef uint32_t count = 0, jumps = 0, followed = 0
    cdef int width = 16 if mode & MODE_WIDTH == MODE_16 else 32 if mode & MODE_WIDTH == MODE_32 else 64
    cdef int length
    cdef Block *block
    cdef Op *op
    cdef bint limited
    if code == NULL:
        # Nothing is there: an unclaimed bus reads all ones (which is no instruction).
        memset(nothing, 0xff, 16)
        code = nothing
        room = 16
    block = allocate_block(cpu, BLOCK_INSTRUCTIONS * OPS_PER_INSTRUCTION + 1)
    op = &block.head + 1
    while count < BLOCK_INSTRUCTIONS:
        left = room - used
        if left == 0:
            break
        limited = False
        if width != 64 and cpu.seg[SEG_CS].limit - (ip + used) <= left - 1:
            left = cpu.seg[SEG_CS].limit - (ip + used) + 1
            limited = True
        if width != 64 and ip + used > cpu.seg[SEG_CS].limit:
            break
        length = decode(code + used, <int>(left if left < 16 else 16), width, cpu.features, &insns[count])
        if length == DECODE_NEED_MORE and count:
            break  # starts a block of its own
        if length > 0 and count and repeats(&insns[count]):
            break  # it may stop in its midst, and going on must find the block that it stopped in
        if length == DECODE_NEED_MORE and limited:
            fault(cpu, NULL, VEC_GP, 0)
            return NULL
        if length == DECODE_NEED_MORE:
            # The instruction goes on in the next page.
            if not fetch_page(cpu, cross(cpu, linear_ip), &page2):
                return NULL
            memcpy(bytes, code, left)
            more = physical(cpu, page2)
            if more == NULL:
                memset(bytes + left, 0xff, 16 - left)
            else:
                memcpy(bytes + left, more, 16 - left)
            left = 16
            if width != 64 and cpu.seg[SEG_CS].limit - ip < 15:
                left = cpu.seg[SEG_CS].limit - ip + 1
            length = decode(bytes, <int>left, width, cpu.features, &insns[0])
            if length == DECODE_NEED_MORE:
                fault(cpu, NULL, VEC_GP, 0)
                return NULL
        places[count] = op
        if length < 0:
            memset(op, 0, sizeof(Op))
            op.fn = undefined if length == DECODE_UNDEFINED else too_long
            op.ip = ip + used
            op.len = 1
            op.acct = acct
            op += 1
            chunks |= chunk_mask((physical_ip + used) & 0xfff, left if left < 15 else 15)
            used += 1
            break
        op = operations_of(cpu, &insns[count], op, ip + used, acct)
        places[count] = op - 1
        acct = (op - 1).acct
        if page2 != NO_PAGE:
            chunks = chunk_mask(physical_ip & 0xfff, room)
            bytes2 = <uint64_t>length - room
        else:
            chunks |= chunk_mask((physical_ip + used) & 0xfff, <uint64_t>length)
        used += <uint64_t>length
        count += 1
        if (insns[count - 1].family == FAM_JMP and insns[count - 1].form == FORM_REL and followed < FOLLOWED_JUMPS
                and (op - 1).fn == jump_handler(True, False) and acct >> ACCT_SHIFT < BLOCK_UNITS):
            # A jump within the page: decoding goes on at its target.
            used = <uint64_t>(op - 1).imm - ip
            (op - 1).fn = followed_jump
            followed += 1
            continue
        if page2 != NO_PAGE or row_of(&insns[count - 1]).flags & ROW_ENDS_BLOCK or acct >> ACCT_SHIFT >= BLOCK_UNITS:
            break
        if insns[count - 1].family == FAM_JCC:
            jumps += 1
            if jumps == JUMPS_PER_BLOCK:
                break
    memset(op, 0, sizeof(Op))
    op.fn = block_end
    op.ip = ip + used
    if width == 32:
        op.ip = <uint32_t>op.ip
    op.acct = acct
    op += 1
    drop_dead_flags(places, insns, count)
    block.physical = physical_ip
    block.physical2 = page2
    block.ip = ip
    block.mode = mode
    block.ops = <uint32_t>(op - (&block.head + 1))
    insert_block(cpu, block, chunks, bytes2)
    watch_block(cpu, block)
    cpu.blocks_decoded += 1
    return block
