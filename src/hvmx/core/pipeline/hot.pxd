# cython: language_level=3
"""Where guest cycles go: by the block of code that they passed in, and by what held it.

While this is on, no way of a node is remembered: every path through a block comes by here, with its time by bounds. What
comes on top of paths is charged to the block in which it happens. So all time is in one row or another, to the unit. The
table is of a fixed size: rows that took the least time make room for new ones, and are added up as the others.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from hvmx.core.state.state cimport *

cdef enum:
    HOT_PATH_BITS = 15         # how many paths are remembered, with how their time is split

# What held the guest. hot.pyx has the names, in this order; pipes follow, by their numbers.
cdef enum:
    BOUND_FRONT_END            # dispatch
    BOUND_DEPENDENCY           # instructions that wait for each other's results
    BOUND_MISPREDICTION        # from the dispatch of the branch until the right path is dispatched
    BOUND_SERIAL               # instructions and events with which nothing overlaps
    BOUND_STRING               # repeated string instructions
    BOUND_DATA_TLB
    BOUND_CODE_TLB
    BOUND_CACHE
    BOUND_EVENTS               # the delivery of exceptions and interrupts
    BOUND_EXITS                # exits and hypercalls
    BOUND_PIPES
    BOUNDS = BOUND_PIPES + PIPES

# The time of a path by what held it, and by its instructions, in units of 1/CYCLE_FRACTION cycle.
cdef struct Split:
    uint32_t units[BOUNDS]
    uint32_t steps[BLOCK_INSTRUCTIONS]
    uint32_t mispredicted      # whether its last instruction is a branch that went another way than predicted

# Begin; MemoryError where the host has no room. The caller forgets all paths.
cdef int begin_hot(Cpu *cpu) except -1
cdef void free_hot(Cpu *cpu) noexcept nogil
# What has been gathered: see Vcpu.hot_blocks() and Vcpu.time_by_class().
cdef dict hot_blocks(Cpu *cpu)
cdef tuple time_by_class(Cpu *cpu)
# Of the path in this place of the table of paths.
cdef Split *split_of_path(Cpu *cpu, uint64_t place) noexcept nogil
# After step() of a path's instruction, which took so many units and has left this state.
cdef void split_step(Split *split, uint32_t index, const Pipeline *s, const Timing *t, const PipelineModel *m, bint mispredicted,
                     uint32_t units) noexcept nogil
# A path from `entry` on, before it is accounted for, or (-1) taken back.
cdef void note_path(Cpu *cpu, Op *entry, const Split *split, int64_t cost, int64_t times) noexcept nogil
# What is charged from here on, with Cpu.node at no place, comes from the block of `op`.
cdef void note_place(Cpu *cpu, Op *op) noexcept nogil
cdef void note_charge(Cpu *cpu, uint32_t kind, int64_t units) noexcept nogil


cdef inline void charge(Cpu *cpu, uint32_t kind, int64_t count, int64_t units) noexcept nogil:
    """Account for time on top of what the pipeline takes, in units of 1/CYCLE_FRACTION cycle; negative: take it back."""
    cpu.charged[kind].count += count
    cpu.charged[kind].units += units
    cpu.acct += units << ACCT_SHIFT
    if cpu.hot != NULL:
        note_charge(cpu, kind, units)
