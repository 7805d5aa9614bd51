# cython: language_level=3
"""What the pipeline sees of a decoded instruction."""
from libc.stdint cimport uint64_t

from hvmx.core.state.insn cimport Insn, InsnRow
from hvmx.core.state.state cimport PipelineModel, Timing

cdef void time_instruction(const Insn *insn, const InsnRow *row, uint64_t ip, const PipelineModel *m, Timing *t) noexcept nogil
