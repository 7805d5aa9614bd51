# cython: language_level=3
"""A trace: neighbouring operations that become one piece of host code, and what the translator knows at each of them.

Registers of the host while translated code runs:
    RDI         the Cpu
    RSI         the first Op of the trace: the others are at known distances
    RBP         the TLB of the present privilege, once memory has been accessed
    RAX RCX RDX scratch, within one operation
    the rest    allocated to guest registers (run_chain.h saves those that its caller wants back)
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from hvmx.core.translate.emit cimport *
from hvmx.core.state.state cimport *

cdef extern from "trace.h" nogil:
    enum:
        AT_FL_RES, AT_FL_AUX, AT_FL_CF, AT_ACCT, AT_RIP, AT_TLB, AT_EA, AT_EA_OFFSET, AT_MODE_KEY, AT_SEGMENTS, AT_JCACHE
        AT_BASE, AT_LIMIT, AT_ACCESS, AT_READ, AT_WRITE, AT_ADDEND, AT_KEY, AT_KNOWN, AT_TARGET
        AT_FN
        AT_RETURN_TOP, AT_RETURNED, AT_RETURNS, AT_RUN, AT_RUN_LENGTHS, AT_RUN_SURE
        AT_NODE, AT_RESUME, AT_WAYS, WAY_BYTES, AT_WAY_TARGET, AT_WAY_NEXT, AT_WAY_COST
    void emit_go_on(Emitter *)

cdef enum:
    TEMP = 17                   # beside the registers of Cpu.r: a value that pending flags need and no guest register has
    VIRTUAL_REGISTERS = 18
    FREE = 18                   # in guest_of: the host register is allocated to none of them
    IMMEDIATE = 18              # instead of a register: PendingFlags.immediate
    SIDE_EXITS = 160            # of one trace, which ends before there are more
    MOST_SIDE_EXITS = 4         # of one operation

# Arithmetic flags are not computed when their instruction runs, but when something reads them, or when the trace is left.
# Until then they are pending: described by the operation and its operands.
cdef enum:
    PENDING_NONE                # Cpu's lazy flags are up to date
    PENDING_CMP                 # of a - b
    PENDING_TEST                # of a & b
    PENDING_ADD, PENDING_SUB    # a is the result, b what was added or subtracted
    PENDING_LOGIC               # a is the result; CF and OF are 0
    PENDING_NEG, PENDING_INC, PENDING_DEC  # a is the result; INC and DEC keep the CF that is in Cpu's lazy flags
    # and of these, each with something in TEMP:
    PENDING_SHL, PENDING_SHR, PENDING_SAR  # TEMP is what was shifted, `immediate` the count
    PENDING_PRODUCT             # a is the lower half; TEMP is CF and OF

ctypedef struct PendingFlags:
    uint8_t kind, width         # PENDING_*, bits
    uint8_t a, b                # registers of the guest, TEMP, or for b IMMEDIATE
    int64_t immediate

# What differs from Cpu at one point of the trace.
ctypedef struct TraceState:
    uint8_t host_of[VIRTUAL_REGISTERS]  # by register of the guest; HOST_NONE where its value is only in Cpu
    uint32_t dirty              # a bit for each register of the guest whose value in Cpu is out of date
    PendingFlags pending

# A side exit: where the trace is left because something is not as usual, or because a branch is taken. Its code follows
# that of the trace.
ctypedef struct SideExit:
    uint8_t *jump
    uint8_t *other_jump         # of SIDE_EXIT_NOT_SURE
    uint8_t *back               # where the trace goes on, of SIDE_EXIT_NOT_SURE
    Op *op
    uint8_t kind                # SIDE_EXIT_*
    TraceState state            # where it leaves

cdef enum:
    SIDE_EXIT_INTERPRET         # the interpreter's handlers go on, from this operation
    SIDE_EXIT_SAME_PAGE         # the branch is taken, to this page
    SIDE_EXIT_OTHER_PAGE        # ... to another page
    SIDE_EXIT_NOT_SURE          # the branch is not taken: ask the predictor, and mostly go back

ctypedef struct Trace:
    Emitter e
    uint8_t *code               # where it begins
    Cpu *cpu
    Op *first
    OpFn first_handler          # that of `first`, which may have another one for now
    TraceState state            # at the present operation
    uint8_t guest_of[16]        # by register of the host
    uint64_t used[16]           # by register of the host: `clock` at its last use
    uint64_t clock              # the number of the present operation, whose registers are not evicted
    bint has_tlb                # RBP is loaded
    SideExit side_exits[SIDE_EXITS]
    uint32_t side_exit_count

cdef inline bint needs_temp(Trace *t) noexcept nogil:
    """Do the pending flags need what is in TEMP?"""
    cdef uint32_t kind = t.state.pending.kind
    return kind != PENDING_NONE and (t.state.pending.a == TEMP or t.state.pending.b == TEMP or kind >= PENDING_SHL)


cdef inline int64_t at_register(uint32_t guest) noexcept nogil:
    """Where a register of the guest is in Cpu."""
    return 8 * guest
