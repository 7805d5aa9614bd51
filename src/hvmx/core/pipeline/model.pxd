# cython: language_level=3
"""The figures of a pipeline, from Python objects to those that the core computes with."""
from libc.stdint cimport uint32_t

from hvmx.core.state.state cimport Cpu

# Every class takes its cost, in units of 1/CYCLE_FRACTION cycle, one instruction after the other.
cdef int no_overlap(Cpu *cpu, uint32_t[::1] costs) except -1
# What a hvmx.cost.profile.PipelineTables says. ValueError for what the core cannot hold.
cdef int load_model(Cpu *cpu, object tables) except -1
