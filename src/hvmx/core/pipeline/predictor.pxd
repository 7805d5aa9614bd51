# cython: language_level=3
"""The branch predictor: directions, targets of indirect branches, and return addresses.

A branch whose runs are always of the same lengths, such as that of a loop, is sure: it is predicted by these alone, and is no
part of the history, as it tells nothing about others; so most branches cost the host little. The direction of any other comes
from the longest history for which there is an entry with the branch's tag, as in TAGE (Seznec and Michaud, 2006), or else from
a counter by address. Where an indirect branch went is part of the history, or else it is known apart for the next few of
indirect branches and returns only, which are looked up by both. All of it depends on nothing but the branches that the guest has executed.
"""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.state.state cimport *

# A predictor of these sizes for the processor; without tables there is none. ValueError for what cannot be.
cdef int make_predictor(Cpu *cpu, object lengths, uint32_t entries, uint32_t targets, uint32_t target_history,
                        uint32_t returns) except -1
cdef void free_predictor(Cpu *cpu) noexcept nogil
# As after a reset.
cdef void forget_branches(Cpu *cpu) noexcept nogil


cdef inline RunEntry *runs_of(Predictor *p, uint64_t ip) noexcept nogil:
    return &p.runs[(ip ^ ip >> RUN_BITS) & (RUN_ENTRIES - 1)]


cdef inline void remember_return(Predictor *p, uint64_t ip) noexcept nogil:
    p.return_top = p.return_top + 1 if p.return_top + 1 < p.return_entries else 0
    p.returns[p.return_top] = ip
