# cython: language_level=3
"""A stretch of operations on its way to host code: what is known at the present place of it.

Registers of the host while translated code runs:
    RDI         the Cpu
    RSI         the first Op of the stretch: the others are at known distances
    RBP         the TLB of the present privilege, once memory has been accessed
    RAX RCX RDX scratch, within one operation
    the rest    hold registers of the guest (run_chain.h saves those that its caller wants back)
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from hvmx.core.translate.emit cimport *
from hvmx.core.state.state cimport *

cdef extern from "trace.h" nogil:
    enum:
        AT_FL_RES, AT_FL_AUX, AT_FL_CF, AT_ACCT, AT_RIP, AT_TLB, AT_EA, AT_EA_OFFSET, AT_MODE_KEY, AT_SEGMENTS, AT_JCACHE
        AT_BASE, AT_LIMIT, AT_ACCESS, AT_READ, AT_WRITE, AT_ADDEND, AT_KEY, AT_KNOWN, AT_TARGET
        AT_FN, AT_HEAD
    void emit_go_on(Emitter *)

cdef enum:
    VALUE = 17                  # beside the registers of Cpu.r: a value that owed flags need and nothing else holds
    IMMEDIATE = 18              # instead of a register: Owed.immediate
    HELD = 18                   # as many numbers; in guest_of: nothing
    EXITS = 160                 # of one stretch, which ends before there are more
    MOST_EXITS = 4              # of one operation

# Arithmetic flags are not computed when their instruction runs, but when somebody looks at them, or the state is left for
# others to see. Until then they are owed: known by operation and operands.
cdef enum:
    OWED_NOTHING                # Cpu's lazy flags are true
    OWED_CMP                    # of a - b
    OWED_TEST                   # of a & b
    OWED_ADD, OWED_SUB          # a is the result, b what was added or subtracted
    OWED_LOGIC                  # a is the result; CF and OF are 0
    OWED_NEG, OWED_INC, OWED_DEC  # a is the result; INC and DEC leave the CF that Cpu's lazy flags have
    # and of these, each with something in VALUE:
    OWED_SHL, OWED_SHR, OWED_SAR  # VALUE is what was shifted, `immediate` the count
    OWED_PRODUCT                # a is the lower half; VALUE is CF and OF

ctypedef struct Owed:
    uint8_t kind, width         # OWED_*, bits
    uint8_t a, b                # registers of the guest, VALUE, or for b IMMEDIATE
    int64_t immediate

ctypedef struct Place:
    uint8_t host_of[HELD]       # by register of the guest; HOST_NONE where only Cpu has it
    uint32_t dirty              # a bit for each register of the guest: Cpu does not have its value yet
    Owed owed

# What is left for the end of the code: where it goes on when something is not as usual, or a branch is taken.
ctypedef struct Exit:
    uint8_t *jump
    Op *op
    uint8_t kind                # EXIT_*
    Place place

cdef enum:
    EXIT_ALONE                  # the operation by its own handler, and all after it by theirs
    EXIT_FOLLOW                 # the branch is taken, to this page
    EXIT_FOLLOW_FAR             # ... to another page

ctypedef struct Stretch:
    Emitter e
    uint8_t *code               # where it begins
    Cpu *cpu
    Op *first
    OpFn first_handler          # `first` itself may have another one in its place
    Place now
    uint8_t guest_of[16]        # by register of the host
    uint64_t used[16]           # when it was last used
    uint64_t clock              # the number of the present operation: what it uses stays
    bint has_tlb
    Exit exits[EXITS]
    uint32_t exit_count

cdef inline bint needs_value(Stretch *t) noexcept nogil:
    """Is what VALUE holds still needed?"""
    cdef uint32_t kind = t.now.owed.kind
    return kind != OWED_NOTHING and (t.now.owed.a == VALUE or t.now.owed.b == VALUE or kind >= OWED_SHL)


cdef inline int64_t at_register(uint32_t guest) noexcept nogil:
    """Where a register of the guest is in Cpu."""
    return 8 * guest
