# cython: language_level=3
"""Paths: what the pipeline takes from a node to an Op of the same block, computed once for each state in which it is met.

A state is interned when it is met for the second time: equal states are then mostly one object. A node is an Op with a state;
its ways lead to the nodes behind its block. Tables are of a fixed size and overwrite what was there; when the room for nodes
and states is used up, all of them are forgotten. So no guest can fill anything, and what is known changes no guest cycle.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from hvmx.core.state.state cimport *

# Room for all that is known of a processor's paths; NULL where the host has none. Cpu.node is then the empty state.
cdef bint make_paths(Cpu *cpu) noexcept nogil
cdef void free_paths(Cpu *cpu) noexcept nogil
cdef uint64_t bytes_of_paths() noexcept nogil
# Forget all nodes, but keep the present place and state: when the model changes.
cdef void forget_paths(Cpu *cpu) noexcept nogil
# Cpu.node in the present state, at no place.
cdef void leave_code(Cpu *cpu) noexcept nogil
# Cpu.node at this Op, in the present state.
cdef void begin_at(Cpu *cpu, Op *op) noexcept nogil
# Wait until all is complete that has been accounted for. Cpu.node is then at no place.
cdef void drain_pipeline(Cpu *cpu) noexcept nogil

# Account for the chain, from Cpu.node, which is then at no place ...
# ... up to the instruction of `op`, which has not happened.
cdef void account_before(Cpu *cpu, Op *op) noexcept nogil
# ... through the branch `op`, which was predicted to go elsewhere.
cdef void account_mispredicted(Cpu *cpu, Op *op, bint taken) noexcept nogil
# What account() and account_before() would add to Cpu.acct.
cdef int64_t cost_through(Cpu *cpu, Op *op) noexcept nogil
cdef int64_t cost_before(Cpu *cpu, Op *op) noexcept nogil
# After account() of an instruction with which nothing overlaps: it has not happened after all. Cpu.node is at it.
cdef void take_back(Cpu *cpu, Op *op) noexcept nogil
cdef const Timing *timing_of(Op *op) noexcept nogil
# The first Op of the first instruction after that of `op`, the entry of Cpu.node, which begins when Cpu.acct is `end` or
# more; or the Op at the end of the block.
cdef Op *first_due(Cpu *cpu, Op *op, int64_t end) noexcept nogil

cdef inline uint64_t cycles_now(Cpu *cpu, Op *op) noexcept nogil:
    """Guest cycles at the end of this instruction, in units of 1/CYCLE_FRACTION; NULL: there is none."""
    return guest_time(cpu) + (<uint64_t>cost_through(cpu, op) >> ACCT_SHIFT if op != NULL else 0)


# Behind Cpu.time_through and Cpu.go_through, for what is not known yet: account through `op`; and be at `target`, where
# this way leads to from now on.
cdef void time_through(Cpu *cpu, Op *op) noexcept nogil
cdef void go_through(Cpu *cpu, Op *op, Op *target) noexcept nogil
