# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from hvmx.core.execute.integer.auxiliary cimport *
from hvmx.core.execute.integer.branch cimport call_handler, jcc_handler, jmp_handler
from hvmx.core.memory.codecache cimport allocate_block, chunk_mask, drop_block, find_block, insert_block, remember_jump
from hvmx.core.decode.decoder cimport *
from hvmx.core.decode.timing cimport time_instruction
from hvmx.core.pipeline.scoreboard cimport longest_step
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
    OPS_PER_INSTRUCTION = 3   # guard, address, operation
    HAS_WAY = 0               # in Op.way, until the ways of the block are numbered
    JUMPS_PER_BLOCK = 6       # conditional branches in a block
    FOLLOWED_JUMPS = 4        # unconditional ones that decoding follows


# --- from instructions to operations ------------------------------------------------------------------------------------
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


cdef inline Op *begin(Op *op, OpFn fn, Insn *insn, uint64_t ip, uint32_t number) noexcept nogil:
    """An operation of this instruction, the block's `number`, without operands."""
    memset(op, 0, sizeof(Op))
    op.fn = fn
    op.len = insn.length
    op.ip = ip
    op.number = <uint16_t>number
    op.way = NO_WAY
    return op


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


cdef inline void place_registers(Op *op, Insn *insn, bint numbered) noexcept nogil:
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


cdef inline uint32_t form_of(Insn *insn, const InsnRow *row) noexcept nogil:
    """The form under which the handler is registered."""
    cdef uint32_t bank = FORM_MMX if row.flags & ROW_MMX else 0
    cdef uint32_t form
    if row.flags & ROW_STACK and insn.is_mem:
        return FORM_STACK_M
    if insn.form == FORM_R_RM and insn.opsize2 < insn.opsize and insn.opsize2 <= 32:
        form = bank + (FORM_R_RM8 if insn.opsize2 == 8 else FORM_R_RM16 if insn.opsize2 == 16 else FORM_R_RM32)
        if (handler_of(insn.family, form, insn.opsize, ADDRESS_NONE) != NULL
                or handler_of(insn.family, form, insn.opsize, ADDRESS_EA) != NULL):
            return form
    return bank + insn.form


cdef inline uint32_t memory_kind(Cpu *cpu, Insn *insn, const InsnRow *row) noexcept nogil:
    """How a handler would best find the explicit memory operand: ADDRESS_32, ADDRESS_64 or ADDRESS_EA."""
    if row.flags & ROW_UNACCESSED:
        return ADDRESS_EA if insn.addrsize == 16 else ADDRESS_32 if insn.addrsize == 32 else ADDRESS_64
    if not flat_segment(cpu, insn.segment):
        return ADDRESS_EA
    if cpu.mode & MODE_WIDTH == MODE_64:
        return ADDRESS_64 if insn.addrsize == 64 else ADDRESS_EA
    return ADDRESS_32 if insn.addrsize == 32 else ADDRESS_EA


cdef inline OpFn memory_handler(Insn *insn, const InsnRow *row, uint32_t form, uint32_t *address) noexcept nogil:
    """The handler for a memory operand that is best found as `address` says, which changes where there is no such handler."""
    cdef OpFn fn
    if insn.index == REG_ZERO and (address[0] == ADDRESS_32 or address[0] == ADDRESS_64):
        fn = handler_of(insn.family, form, insn.opsize, ADDRESS_BASE_32 if address[0] == ADDRESS_32 else ADDRESS_BASE_64)
        if fn != NULL:
            return fn
    fn = handler_of(insn.family, form, insn.opsize, address[0])
    if fn == NULL and not row.flags & ROW_UNACCESSED:
        address[0] = ADDRESS_EA
        fn = handler_of(insn.family, form, insn.opsize, ADDRESS_EA)
    if fn == NULL and not row.flags & (ROW_MEM_READ | ROW_MEM_WRITE):
        address[0] = ADDRESS_NONE
        fn = handler_of(insn.family, form, insn.opsize, ADDRESS_NONE)
    return fn


cdef inline OpFn address_handler(Cpu *cpu, Insn *insn, const InsnRow *row) noexcept nogil:
    """The operation that leaves the memory operand's address in cpu.ea."""
    if row.flags & ROW_LATE_ADDRESS:
        return ea_offset
    if flat_segment(cpu, insn.segment):
        if insn.addrsize == 64:
            return ea_flat64
        if insn.addrsize == 32:
            return ea_flat32
    if not row.flags & ROW_ALIGNED:
        if cpu.mode & MODE_WIDTH == MODE_64 and insn.addrsize == 64 and insn.segment >= SEG_FS:
            return ea_based64
        if cpu.mode & MODE_WIDTH == MODE_32 and insn.addrsize == 32:
            return ea_based32
    return ea_segment


cdef inline Op *place_address(Cpu *cpu, Insn *insn, const InsnRow *row, Op *op, uint64_t ip, uint32_t number) noexcept nogil:
    """Writes the operations that come before a handler that reads cpu.ea; returns the place after them."""
    cdef OpFn fn = address_handler(cpu, insn, row)
    cdef uint32_t bytes = (insn.opsize2 if insn.form == FORM_R_RM or insn.form == FORM_R_RM_I else insn.opsize) // 8
    if bytes == 10:
        bytes = 8  # the handler looks at the other two
    if (row.flags & (ROW_X87 | ROW_SSE | ROW_MMX) and not row.flags & ROW_LATE_ADDRESS
            and fn != ea_flat64 and fn != ea_flat32):
        op = begin(op, guard_of_unit(row), insn, ip, number) + 1
    begin(op, fn, insn, ip, number)
    place_memory(op, insn, ip)
    if insn.family == FAM_POP and insn.base == REG_RSP:
        op.disp += insn.opsize // 8  # POP computes such an address after the increment (SDM vol. 2, POP)
    op.x = packed_sizes(insn.opsize, insn.addrsize)
    op.imm = packed_access(bytes, row.flags & ROW_MEM_WRITE != 0, row.flags & ROW_ALIGNED != 0)
    return op + 1


cdef inline OpFn place_target(Cpu *cpu, Insn *insn, Op *op, OpFn fn) noexcept nogil:
    """A relative branch: writes its target; returns its handler, which is `fn` for those that have no better one."""
    cdef uint64_t target = op.ip + insn.length + <uint64_t>insn.imm
    cdef bint same_page, bad
    if insn.opsize == 16:
        target = <uint16_t>target
    elif insn.opsize == 32:
        target = <uint32_t>target
    op.imm = <int64_t>target
    bad = bad_target(cpu, target)
    # A branch that goes on in the next page comes from there: its target's page may have left the instruction TLB.
    same_page = in_same_page(cpu, op.ip, target) and in_same_page(cpu, op.ip, op.ip + insn.length - 1)
    if insn.family == FAM_JCC:
        return jcc_handler(insn.cc, same_page, bad)
    if insn.family == FAM_JMP:
        return jmp_handler(same_page, bad)
    if insn.family == FAM_CALL:
        return call_handler(insn.opsize, stack_kind(cpu), same_page, bad)
    return fn


cdef Op *operations_of(Cpu *cpu, Insn *insn, const InsnRow *row, Op *op, uint64_t ip, uint32_t number) noexcept nogil:
    """Writes the operations of one instruction, the block's `number`, at `op`; returns the place after them."""
    cdef uint32_t form = form_of(insn, row), address = ADDRESS_NONE
    cdef bint on_stack = row.flags & ROW_STACK != 0, unaccessed = row.flags & ROW_UNACCESSED != 0
    cdef OpFn fn
    if insn.is_mem and not on_stack:
        address = memory_kind(cpu, insn, row)
        fn = memory_handler(insn, row, form, &address)
    else:
        address = stack_kind(cpu) if on_stack else ADDRESS_NONE
        fn = handler_of(insn.family, form, insn.opsize, address)
    if row.flags & (ROW_CPL0 | ROW_PROTECTED):
        begin(op, guard, insn, ip, number).imm = row.flags
        op += 1
    if insn.is_mem and fn != NULL and (on_stack or address == ADDRESS_EA and not unaccessed):
        op = place_address(cpu, insn, row, op, ip, number)
    begin(op, fn, insn, ip, number)
    op.imm = insn.imm
    op.seg = SEG_SS if on_stack else insn.segment
    op.x = packed_sizes(insn.opsize, insn.addrsize)
    if insn.prefixes & PREFIX_REP:
        op.x |= REPEAT_F3
    if insn.prefixes & PREFIX_REPNE:
        op.x |= REPEAT_F2
    place_registers(op, insn, row.flags & ROW_NUMBERED != 0)
    if insn.is_mem and not on_stack and (address == ADDRESS_32 or address == ADDRESS_64 or unaccessed):
        place_memory(op, insn, ip)
    if insn.form == FORM_I_I:
        op.disp = insn.imm2
    elif insn.form == FORM_REL:
        fn = place_target(cpu, insn, op, fn)
    if row.flags & ROW_CONDITION:
        op.x = insn.cc
    if row.flags & ROW_ENDS_BLOCK or insn.form == FORM_REL:
        op.way = HAS_WAY
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
        if row.flags & ROW_COUNTED and not insns[index].imm & shift_mask(insns[index].opsize):
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
        remember_jump(cpu, <uint32_t>(jump - cpu.jcache))
    return first


cdef inline uint64_t cross(Cpu *cpu, uint64_t linear_ip) noexcept nogil:
    """The start of the page after that of a linear address."""
    cdef uint64_t after = (linear_ip | 0xfff) + 1
    return after if cpu.mode & MODE_WIDTH == MODE_64 else <uint32_t>after


cdef inline bint repeats(Insn *insn) noexcept nogil:
    return insn.prefixes & (PREFIX_REP | PREFIX_REPNE) and row_of(insn).flags & (ROW_STRING | ROW_ENDS_BLOCK) == ROW_STRING


cdef struct Decoding:
    # How far the decoding of a block has come.
    const uint8_t *code      # at its first instruction, in the page of that
    uint64_t ip
    uint64_t linear_ip
    uint64_t physical_ip
    uint64_t page2           # the page in which its only instruction ends; NO_PAGE for one that ends in its first
    uint64_t room            # bytes from its start to the end of the page
    uint64_t left            # bytes that the next instruction may have
    uint64_t used            # how far decoding is from the start, modulo 2^64
    uint64_t chunks          # of the page: what has been decoded
    uint64_t bytes2          # decoded from the second page
    uint64_t units           # the longest that what has been decoded may take, in units of 1/CYCLE_FRACTION cycle
    uint32_t count           # instructions
    uint32_t jumps           # conditional ones among them
    uint32_t followed        # unconditional ones that decoding followed
    int width


cdef enum:
    BLOCK_IS_FULL = 0
    FETCH_FAULTED = -100     # beside DECODE_...: cpu.fault is set


cdef int decode_across_pages(Cpu *cpu, Decoding *at, Insn *insn) noexcept nogil:
    """Decodes an instruction that goes on in the next page; its length, DECODE_... or FETCH_FAULTED."""
    cdef uint8_t bytes[16]
    cdef const uint8_t *more
    cdef int length
    if not fetch_page(cpu, cross(cpu, at.linear_ip), &at.page2):
        return FETCH_FAULTED
    memcpy(bytes, at.code, at.left)
    more = physical(cpu, at.page2)
    if more == NULL:
        memset(bytes + at.left, 0xff, 16 - at.left)
    else:
        memcpy(bytes + at.left, more, 16 - at.left)
    at.left = 16
    if at.width != 64 and cpu.seg[SEG_CS].limit - at.ip < 15:
        at.left = cpu.seg[SEG_CS].limit - at.ip + 1
    length = decode(bytes, <int>at.left, at.width, cpu.features, insn)
    if length == DECODE_NEED_MORE:
        fault(cpu, NULL, VEC_GP, 0)
        return FETCH_FAULTED
    return length


cdef inline int decode_next(Cpu *cpu, Decoding *at, Insn *insn) noexcept nogil:
    """Decodes the block's next instruction; its length, DECODE_..., BLOCK_IS_FULL if it stays out, or FETCH_FAULTED."""
    cdef bint limited = False
    cdef int length
    at.left = at.room - at.used
    if at.left == 0:
        return BLOCK_IS_FULL
    if at.width != 64:
        if at.ip + at.used > cpu.seg[SEG_CS].limit:
            return BLOCK_IS_FULL
        if cpu.seg[SEG_CS].limit - (at.ip + at.used) <= at.left - 1:
            at.left = cpu.seg[SEG_CS].limit - (at.ip + at.used) + 1
            limited = True
    length = decode(at.code + at.used, <int>(at.left if at.left < 16 else 16), at.width, cpu.features, insn)
    if at.count:
        if length == DECODE_NEED_MORE:
            return BLOCK_IS_FULL  # it starts a block of its own
        if length > 0 and repeats(insn):
            return BLOCK_IS_FULL  # it may stop in its midst, and going on must find the block that it stopped in
    elif length == DECODE_NEED_MORE:
        if not limited:
            return decode_across_pages(cpu, at, insn)
        fault(cpu, NULL, VEC_GP, 0)
        return FETCH_FAULTED
    return length


cdef inline void count_in(Decoding *at, uint64_t length, uint64_t units) noexcept nogil:
    """One more instruction is in the block, which may take so long."""
    if at.page2 != NO_PAGE:
        at.chunks = chunk_mask(at.physical_ip & 0xfff, at.room)
        at.bytes2 = length - at.room
    else:
        at.chunks |= chunk_mask((at.physical_ip + at.used) & 0xfff, length)
    at.used += length
    at.units += units
    at.count += 1


cdef inline Op *place_end(Decoding *at, Op *op) noexcept nogil:
    """The Op at the end of a block, which belongs to no instruction."""
    memset(op, 0, sizeof(Op))
    op.fn = block_end
    op.way = HAS_WAY
    op.ip = at.ip + at.used
    if at.width == 32:
        op.ip = <uint32_t>op.ip
    op.number = <uint16_t>at.count
    return op + 1


cdef inline Op *place_refusal(Decoding *at, Op *op, int error) noexcept nogil:
    """Bytes that are no instruction fault when they are reached."""
    memset(op, 0, sizeof(Op))
    op.fn = undefined if error == DECODE_UNDEFINED else too_long
    op.ip = at.ip + at.used
    op.len = 1
    op.number = <uint16_t>at.count
    op.way = NO_WAY
    at.chunks |= chunk_mask((at.physical_ip + at.used) & 0xfff, at.left if at.left < 15 else 15)
    at.used += 1
    return op + 1


cdef inline bint goes_on(Decoding *at, Insn *insn, const InsnRow *row, Op *last) noexcept nogil:
    """May the block have another instruction after this one, whose operation is `last`? A jump may be followed."""
    if at.page2 != NO_PAGE or at.units >= BLOCK_UNITS:
        return False
    if (insn.family == FAM_JMP and insn.form == FORM_REL and at.followed < FOLLOWED_JUMPS
            and last.fn == jmp_handler(True, False)):
        at.used = <uint64_t>last.imm - at.ip  # within the page
        last.fn = followed_jump
        at.followed += 1
        return True
    if row.flags & ROW_ENDS_BLOCK:
        return False
    if insn.family == FAM_JCC:
        at.jumps += 1
    return at.jumps < JUMPS_PER_BLOCK


cdef uint32_t number_ways(Op *head, Op *end) noexcept nogil:
    """Number the Ops of a block, and those that accounting is usually done at; how many these are."""
    cdef Op *op = head + 1
    cdef uint32_t ways = 0
    while op != end:
        op.place = <uint16_t>(op - head)
        if op.way == HAS_WAY:
            op.way = <uint8_t>ways
            ways += 1
        op += 1
    return ways


cdef inline void fuse(Timing *before, const Timing *branch) noexcept nogil:
    if before.flags & TIMING_FUSES and branch.flags & TIMING_CONDITIONAL:
        before.flags |= TIMING_FUSED


cdef void fuse_with_next(Cpu *cpu, Decoding *at, Timing *last) noexcept nogil:
    """What fuses with the branch behind it does so where the block ends between them, too: how long it takes is not up to where
    that is. The block depends on the bytes of the branch then."""
    cdef Insn insn
    cdef Timing timing
    cdef int length
    if not last.flags & TIMING_FUSES or at.page2 != NO_PAGE:
        return
    length = decode_next(cpu, at, &insn)
    if length > 0:
        time_instruction(&insn, row_of(&insn), at.ip + at.used, cpu.model, &timing)
        fuse(last, &timing)
        at.chunks |= chunk_mask((at.physical_ip + at.used) & 0xfff, <uint64_t>length)


cdef void begin_decoding(Cpu *cpu, Decoding *at, uint8_t *nothing) noexcept nogil:
    """At the address of the first instruction, which is known. `nothing` has room for 16 bytes."""
    at.code = physical(cpu, at.physical_ip)
    at.room = 4096 - (at.physical_ip & 0xfff)
    if at.code == NULL:
        # Nothing is there: an unclaimed bus reads all ones (which is no instruction).
        memset(nothing, 0xff, 16)
        at.code = nothing
        at.room = 16
    at.page2 = NO_PAGE
    at.units = CYCLE_FRACTION
    if cpu.model.window:
        at.units += MOST_BEHIND * CYCLE_FRACTION  # what may be left to wait for when the block is entered


cdef Block *build(Cpu *cpu, uint64_t ip, uint64_t linear_ip, uint64_t physical_ip, uint32_t mode) noexcept nogil:
    """A new block from `ip` on, in the code cache. NULL: cpu.fault is set."""
    cdef Insn insns[BLOCK_INSTRUCTIONS]
    cdef Op *places[BLOCK_INSTRUCTIONS]
    cdef Timing timings[BLOCK_INSTRUCTIONS + 1]
    cdef uint8_t nothing[16]
    cdef Decoding at
    cdef Insn *insn
    cdef const InsnRow *row
    cdef int length
    cdef Block *block = allocate_block(cpu, BLOCK_INSTRUCTIONS * OPS_PER_INSTRUCTION + 1, BLOCK_INSTRUCTIONS + 1)
    cdef Op *op = &block.head + 1
    memset(&at, 0, sizeof(Decoding))
    at.ip, at.linear_ip, at.physical_ip = ip, linear_ip, physical_ip
    at.width = 16 if mode & MODE_WIDTH == MODE_16 else 32 if mode & MODE_WIDTH == MODE_32 else 64
    begin_decoding(cpu, &at, nothing)
    while at.count < BLOCK_INSTRUCTIONS:
        insn = &insns[at.count]
        length = decode_next(cpu, &at, insn)
        if length == FETCH_FAULTED:
            return NULL
        if length == BLOCK_IS_FULL:
            break
        if length < 0:
            op = place_refusal(&at, op, length)
            break
        row = row_of(insn)
        op = operations_of(cpu, insn, row, op, ip + at.used, at.count)
        places[at.count] = op - 1
        time_instruction(insn, row, ip + at.used, cpu.model, &timings[at.count])
        if at.count:
            fuse(&timings[at.count - 1], &timings[at.count])
        count_in(&at, <uint64_t>length, longest_step(&timings[at.count], cpu.model))
        if not goes_on(&at, insn, row, op - 1):
            break
    if at.count and length >= 0:  # nothing fuses with what is no instruction
        fuse_with_next(cpu, &at, &timings[at.count - 1])
    op = place_end(&at, op)
    drop_dead_flags(places, insns, at.count)
    block.ways = number_ways(&block.head, op)
    block.timings = <Timing *>op
    memset(&timings[at.count], 0, sizeof(Timing))  # of what is no instruction, if the block ends with that
    memcpy(op, timings, (at.count + 1) * sizeof(Timing))
    block.physical = physical_ip
    block.physical2 = at.page2
    block.ip = ip
    block.mode = mode
    block.ops = <uint32_t>(op - (&block.head + 1))
    insert_block(cpu, block, at.count + 1, at.chunks, at.bytes2)
    watch_block(cpu, block)
    cpu.blocks_decoded += 1
    return block
