# cython: language_level=3
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from hvmx.core.execute.integer.branch cimport fall_through_mispredicted
from hvmx.core.pipeline.predictor cimport runs_of
from hvmx.core.translate.flags cimport materialise_flags
from hvmx.core.translate.registers cimport spill_all
from hvmx.core.state.ops cimport branch, follow, jump_entry, next_ip
from hvmx.core.translate.trace cimport *

cdef extern from "ask_predictor.h" nogil:
    void hvmx_ask_direction()
    void hvmx_ask_target()


# --- the branch predictor -----------------------------------------------------------------------------------------------
cdef inline void unless_sure(Trace *t, Op *op, bint taken, uint8_t **jumps) noexcept nogil:
    """Two jumps of which one is taken unless the predictor is sure that the branch goes on this way, which it learns then, as
    learn_run() does. Uses RAX and RCX."""
    cdef Emitter *e = &t.e
    emit_mov_i(e, HOST_RAX, <uint64_t>runs_of(t.cpu.predictor, op.ip))
    emit_alu_mi(e, 16, ALU_CMP, HOST_RAX, AT_RUN_SURE, RUN_SURE | 0x301 if taken else RUN_SURE)  # both bytes, sure and counter
    jumps[0] = emit_jump_if(e, CC_NE)
    emit_load(e, 16, HOST_RCX, HOST_RAX, AT_RUN)
    emit_alu_m(e, 16, ALU_CMP, HOST_RCX, HOST_RAX, AT_RUN_LENGTHS + 2 * taken)
    jumps[1] = emit_jump_if(e, CC_B ^ 1)
    emit_alu_mi(e, 16, ALU_ADD, HOST_RAX, AT_RUN, 1)


cdef void expect_not_taken(Trace *t, Op *op) noexcept nogil:
    cdef SideExit *side_exit = &t.side_exits[t.side_exit_count]
    cdef uint8_t *jumps[2]
    unless_sure(t, op, False, jumps)
    add_side_exit(t, jumps[0], SIDE_EXIT_NOT_SURE, op)
    side_exit.other_jump = jumps[1]
    side_exit.back = t.e.at


cdef void ask_direction(Trace *t, Op *op, bint taken, uint8_t *back) noexcept nogil:
    """Ask the predictor about a branch. If it was right, go on at `back`, or here if that is NULL."""
    cdef Emitter *e = &t.e
    cdef uint8_t *wrong
    cdef uint8_t *right
    emit_mov_i(e, HOST_RDX, op.ip)
    emit_mov_i(e, HOST_RCX, taken)
    emit_mov_i(e, HOST_RAX, <uint64_t>hvmx_ask_direction)
    emit_call_register(e, HOST_RAX)
    if back != NULL:
        wrong = emit_jump_if(e, CC_E)
        emit_mov_i(e, HOST_RAX, <uint64_t>back)
        emit_jump_to_register(e, HOST_RAX)
        emit_here(e, wrong)
        materialise_flags(t)
        spill_all(t)
        hand_over(t, op, fall_through_mispredicted)
        return
    right = emit_jump_if(e, CC_NE)
    emit_mov_i(e, HOST_RAX, <uint64_t>op.imm)
    emit_store(e, 64, HOST_RAX, HOST_RDI, AT_RIP)
    hand_over(t, op, t.cpu.on_misprediction)
    emit_here(e, right)


cdef void expect_taken(Trace *t, Op *op) noexcept nogil:
    cdef uint8_t *unsure[2]
    cdef uint8_t *sure
    unless_sure(t, op, True, unsure)
    emit_test(&t.e, 64, HOST_RDI, HOST_RDI)
    sure = emit_jump_if(&t.e, CC_NE)
    emit_here(&t.e, unsure[0])
    emit_here(&t.e, unsure[1])
    ask_direction(t, op, True, NULL)
    emit_here(&t.e, sure)


cdef void push_return(Trace *t, Op *op) noexcept nogil:
    """As remember_return() of predictor.pxd. Uses RAX, RCX and RDX."""
    cdef Emitter *e = &t.e
    emit_mov_i(e, HOST_RAX, <uint64_t>t.cpu.predictor)
    emit_load(e, 32, HOST_RCX, HOST_RAX, AT_RETURN_TOP)
    emit_alu_i(e, 32, ALU_ADD, HOST_RCX, 1)
    emit_mov_i(e, HOST_RDX, 0)
    emit_alu_i(e, 32, ALU_CMP, HOST_RCX, <int32_t>t.cpu.predictor.return_entries)
    emit_cmov(e, 32, CC_E, HOST_RCX, HOST_RDX)
    emit_store(e, 32, HOST_RCX, HOST_RAX, AT_RETURN_TOP)
    emit_mov_i(e, HOST_RDX, next_ip(op))
    emit_rm(e, 64, 0x89, HOST_RDX, HOST_RAX, HOST_RCX, 3, AT_RETURNS)


cdef void expect_return(Trace *t, Op *op) noexcept nogil:
    """To the target in RAX, which Cpu.rip is, too. Uses RCX and, as all guest registers are in Cpu, R8 and R9."""
    cdef Emitter *e = &t.e
    cdef uint32_t predictor = HOST_R8, top = HOST_R8 + 1
    cdef uint8_t *right
    emit_mov_i(e, predictor, <uint64_t>t.cpu.predictor)
    emit_load(e, 32, top, predictor, AT_RETURN_TOP)
    emit_rm(e, 64, 0x3b, HOST_RAX, predictor, top, 3, AT_RETURNS)  # CMP
    right = emit_jump_if(e, CC_E)
    hand_over(t, op, return_mispredicted)
    emit_here(e, right)
    emit_mov_i(e, HOST_RCX, t.cpu.predictor.return_entries - 1)
    emit_alu_i(e, 32, ALU_SUB, top, 1)
    emit_cmov(e, 32, CC_S, top, HOST_RCX)
    emit_store(e, 32, top, predictor, AT_RETURN_TOP)
    emit_alu_mi(e, 32, ALU_ADD, predictor, AT_RETURNED, 1)


cdef void expect_target(Trace *t, Op *op) noexcept nogil:
    """To the target in RAX, which Cpu.rip is, too, by way of the entry of the jump cache in RDX."""
    cdef Emitter *e = &t.e
    cdef uint8_t *right
    emit_mov(e, 64, HOST_RCX, HOST_RAX)
    emit_mov_i(e, HOST_RDX, op.ip)
    emit_mov_i(e, HOST_RAX, <uint64_t>hvmx_ask_target)
    emit_call_register(e, HOST_RAX)
    right = emit_jump_if(e, CC_NE)
    hand_over(t, op, t.cpu.on_misprediction)
    emit_here(e, right)
    emit_load(e, 64, HOST_RAX, HOST_RDI, AT_RIP)
    jump_entry_into_rdx(t)


cdef void return_mispredicted(Cpu *cpu, Op *op) noexcept nogil:
    cpu.predicts_return(cpu, cpu.rip)
    cpu.on_misprediction(cpu, op)


# --- ways on ------------------------------------------------------------------------------------------------------------
cdef void add_side_exit(Trace *t, uint8_t *jump, uint32_t kind, Op *op) noexcept nogil:
    cdef SideExit *side_exit = &t.side_exits[t.side_exit_count]
    side_exit.jump = jump
    side_exit.op = op
    side_exit.kind = <uint8_t>kind
    side_exit.state = t.state
    t.side_exit_count += 1


cdef void side_exit_if(Trace *t, uint32_t condition, Op *op) noexcept nogil:
    add_side_exit(t, emit_jump_if(&t.e, condition), SIDE_EXIT_INTERPRET, op)


cdef void point_at(Trace *t, Op *op) noexcept nogil:
    """RSI at an Op; leaves the host's flags."""
    cdef int32_t distance = <int32_t>(<uint8_t *>op - <uint8_t *>t.first)
    emit_lea(&t.e, 64, HOST_RSI, HOST_RSI, HOST_NONE, 0, distance)


cdef void go_to(Trace *t, Op *op) noexcept nogil:
    point_at(t, op)
    emit_go_on(&t.e)


cdef void interpret(Trace *t, Op *op) noexcept nogil:
    if op == t.first:
        emit_mov_i(&t.e, HOST_RAX, <uint64_t>t.first_handler)
        emit_jump_to_register(&t.e, HOST_RAX)
        return
    point_at(t, op)
    emit_jump_to_memory(&t.e, HOST_RSI, AT_FN)


cdef void account_way(Trace *t, Op *op, uint32_t target, uint32_t scratch, uint8_t **elsewhere) noexcept nogil:
    """The same as go_way() of ops.pxd, where the way is known to lead to the Op in the host register `target`; otherwise it
    jumps, with nothing changed. Leaves the host's sign flag clear if the budget is spent."""
    cdef Emitter *e = &t.e
    cdef int32_t way = AT_WAYS + op.way * WAY_BYTES
    emit_load(e, 64, scratch, HOST_RDI, AT_NODE)
    emit_alu_m(e, 64, ALU_CMP, target, scratch, way + AT_WAY_TARGET)
    elsewhere[0] = emit_jump_if(e, CC_NE)
    emit_mov(e, 64, HOST_RSI, target)
    emit_load(e, 64, HOST_RAX, scratch, way + AT_WAY_NEXT)
    emit_load(e, 64, HOST_RCX, scratch, way + AT_WAY_COST)
    emit_store(e, 64, HOST_RAX, HOST_RDI, AT_NODE)
    emit_add_to(e, HOST_RDI, AT_ACCT, HOST_RCX)


cdef void hand_over(Trace *t, Op *op, OpFn handler) noexcept nogil:
    point_at(t, op)
    emit_mov_i(&t.e, HOST_RAX, <uint64_t>handler)
    emit_jump_to_register(&t.e, HOST_RAX)


# The same as follow() of ops.pxd.
cdef void follow_to(Trace *t, Op *op) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef int32_t distance = <int32_t>(<uint8_t *>op - <uint8_t *>t.first)
    cdef uint8_t *spent
    cdef uint8_t *elsewhere
    emit_load(e, 64, HOST_RDX, HOST_RSI, distance + AT_TARGET)
    account_way(t, op, HOST_RDX, HOST_RCX, &elsewhere)
    spent = emit_jump_if(e, CC_NS)
    emit_go_on(e)
    emit_here(e, spent)
    emit_store(e, 64, HOST_RSI, HOST_RDI, AT_RESUME)
    emit_mov_i(e, HOST_RAX, <uint64_t>op.imm)
    stop_at_rax(t)
    emit_here(e, elsewhere)
    hand_over(t, op, follow_slowly)


cdef void follow_slowly(Cpu *cpu, Op *op) noexcept nogil:
    follow(cpu, op)


cdef void branch_slowly(Cpu *cpu, Op *op) noexcept nogil:
    """To Cpu.rip."""
    branch(cpu, op, cpu.rip)


cdef void stop_at_rax(Trace *t) noexcept nogil:
    """To the run loop."""
    emit_store(&t.e, 64, HOST_RAX, HOST_RDI, AT_RIP)
    emit_return(&t.e)


# The same as branch() of ops.pxd, to a target that is known.
cdef void enter_at(Trace *t, Op *op, uint64_t target) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef int32_t at = AT_JCACHE + <int32_t>(<uint8_t *>jump_entry(t.cpu, target) - <uint8_t *>t.cpu.jcache)
    cdef uint8_t *spent
    cdef uint8_t *unknown
    cdef uint8_t *elsewhere
    emit_mov_i(e, HOST_RAX, target)
    emit_alu_m(e, 64, ALU_XOR, HOST_RAX, HOST_RDI, AT_MODE_KEY)  # not only of the mode, but of the privilege too
    emit_alu_m(e, 64, ALU_CMP, HOST_RAX, HOST_RDI, at + AT_KEY)
    unknown = emit_jump_if(e, CC_NE)
    emit_load(e, 64, HOST_RDX, HOST_RDI, at + AT_KNOWN)
    account_way(t, op, HOST_RDX, HOST_RCX, &elsewhere)
    spent = emit_jump_if(e, CC_NS)
    emit_go_on(e)
    emit_here(e, spent)
    emit_mov_i(e, HOST_RAX, target)
    stop_at_rax(t)
    emit_here(e, unknown)
    emit_here(e, elsewhere)
    emit_mov_i(e, HOST_RAX, target)
    emit_store(e, 64, HOST_RAX, HOST_RDI, AT_RIP)
    hand_over(t, op, branch_slowly)


cdef void side_exit_unless_canonical(Trace *t, Op *op, uint32_t host, int32_t disp, uint32_t scratch) noexcept nogil:
    """Bits 63 to 47 are all 0 or all 1."""
    cdef Emitter *e = &t.e
    emit_lea(e, 64, scratch, host, HOST_NONE, 0, disp)
    emit_shift_i(e, 64, SHIFT_SAR, scratch, 47)
    emit_alu_i(e, 64, ALU_ADD, scratch, 1)
    emit_shift_i(e, 64, SHIFT_SHR, scratch, 1)
    side_exit_if(t, CC_NE, op)


cdef void jump_entry_into_rdx(Trace *t) noexcept nogil:
    """The address of the jump cache's entry for the target in RAX: see jump_entry() of ops.pxd."""
    cdef Emitter *e = &t.e
    emit_mov(e, 64, HOST_RDX, HOST_RAX)
    emit_shift_i(e, 64, SHIFT_SHR, HOST_RDX, 12)
    emit_alu(e, 32, ALU_XOR, HOST_RDX, HOST_RAX)
    emit_alu_i(e, 32, ALU_AND, HOST_RDX, JCACHE_ENTRIES - 1)
    emit_shift_i(e, 32, SHIFT_SHL, HOST_RDX, 4)
    emit_lea(e, 64, HOST_RDX, HOST_RDI, HOST_RDX, 0, AT_JCACHE)


cdef void probe_jump_cache(Trace *t, Op *op) noexcept nogil:
    cdef Emitter *e = &t.e
    if t.cpu.mode & MODE_WIDTH == MODE_64:
        side_exit_unless_canonical(t, op, HOST_RAX, 0, HOST_RCX)
    jump_entry_into_rdx(t)
    emit_load(e, 64, HOST_RCX, HOST_RDI, AT_MODE_KEY)
    emit_alu(e, 64, ALU_XOR, HOST_RCX, HOST_RAX)
    emit_alu_m(e, 64, ALU_CMP, HOST_RCX, HOST_RDX, AT_KEY)
    side_exit_if(t, CC_NE, op)


cdef void enter_jump_cache_hit(Trace *t, Op *op, bint returns) noexcept nogil:
    cdef Emitter *e = &t.e
    cdef uint8_t *spent
    cdef uint8_t *elsewhere
    emit_store(e, 64, HOST_RAX, HOST_RDI, AT_RIP)
    if t.cpu.predictor != NULL and returns:
        expect_return(t, op)
    elif t.cpu.predictor != NULL:
        expect_target(t, op)
    emit_load(e, 64, HOST_RDX, HOST_RDX, AT_KNOWN)
    account_way(t, op, HOST_RDX, HOST_RCX, &elsewhere)
    spent = emit_jump_if(e, CC_NS)
    emit_go_on(e)
    emit_here(e, spent)
    emit_return(e)
    emit_here(e, elsewhere)
    hand_over(t, op, branch_slowly)


cdef void emit_side_exits(Trace *t) noexcept nogil:
    cdef uint32_t index
    cdef SideExit *side_exit
    for index in range(t.side_exit_count):
        side_exit = &t.side_exits[index]
        emit_here(&t.e, side_exit.jump)
        t.state = side_exit.state
        if side_exit.kind == SIDE_EXIT_NOT_SURE:
            emit_here(&t.e, side_exit.other_jump)
            ask_direction(t, side_exit.op, False, side_exit.back)
            continue
        materialise_flags(t)
        spill_all(t)
        if side_exit.kind == SIDE_EXIT_INTERPRET:
            interpret(t, side_exit.op)
            continue
        if t.cpu.predictor != NULL:
            expect_taken(t, side_exit.op)
        if side_exit.kind == SIDE_EXIT_SAME_PAGE:
            follow_to(t, side_exit.op)
        else:
            enter_at(t, side_exit.op, <uint64_t>side_exit.op.imm)
