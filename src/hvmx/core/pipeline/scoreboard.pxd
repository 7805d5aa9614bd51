# cython: language_level=3
"""The pipeline: what one instruction takes, given the state that those before it have left.

Dispatch is in program order, `width` micro-operations a cycle: the cycle in which the next one is dispatched is the front.
At dispatch it is given to the least booked of its pipes. It starts when what it reads is ready and that pipe is free: in
program order, so what is older goes first, even if what is younger is part of a longer chain. Its results are ready `latency`
cycles later. Dispatch waits while the window is full, that is until the oldest of what is in it is complete; the window is
known in WINDOW_PARTS parts. It also waits for fetching, which takes some cycles for each taken branch but gets ahead while
dispatch is held up. With a window of 0 nothing overlaps.
"""
from libc.stdint cimport uint32_t

from hvmx.core.state.state cimport *

cdef enum Course:
    COURSE_ON                  # to the next instruction; an unconditional branch goes where it leads
    COURSE_TAKEN               # a conditional branch is taken
    COURSE_MISPREDICTED = 2    # beside these: the front is dispatched anew when the branch is resolved

# Moves the front over one instruction; the time that it takes, in units of 1/CYCLE_FRACTION cycle.
cdef uint32_t step(Pipeline *s, const Timing *t, const PipelineModel *m, uint32_t course) noexcept nogil
# Counts times from the front, as they are in a state that is kept.
cdef void settle_pipeline(Pipeline *s) noexcept nogil
# Waits until all is complete, which leaves the state empty; the time that it takes, in the same units.
cdef uint32_t drain(Pipeline *s, const PipelineModel *m) noexcept nogil
# What an element of a repeated string instruction takes on top of the instruction, in the same units.
cdef uint32_t element_time(const Timing *t, const PipelineModel *m, bint downwards) noexcept nogil
# The most time that step() can take, with an element of a repeated instruction, whatever the state, as far as it is this
# instruction's own.
cdef uint32_t longest_step(const Timing *t, const PipelineModel *m) noexcept nogil
