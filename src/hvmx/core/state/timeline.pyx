# cython: language_level=3
import numpy

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free

from hvmx.core.state.state cimport *

_SPAN = numpy.dtype([("begin", "u8"), ("end", "u8"), ("value", "u8"), ("kind", "u4"), ("number", "u4")])


cdef int begin_timeline(Cpu *cpu) except -1:
    cdef Timeline *timeline
    free_timeline(cpu)
    timeline = <Timeline *>calloc(1, sizeof(Timeline))  # the host gives memory to what is written of it
    if timeline == NULL:
        raise MemoryError("the host has no room for a timeline")
    timeline.turn = timeline.privilege.begin = timeline.space.begin = guest_time(cpu)
    timeline.privilege.kind = SPAN_PRIVILEGE
    timeline.privilege.number = privilege_of(cpu)
    timeline.space.kind = SPAN_ADDRESS_SPACE
    timeline.space.value = cpu.cr3
    timeline.waiting.kind = SPAN_WAITING
    cpu.timeline = timeline
    return 0


cdef void free_timeline(Cpu *cpu) noexcept nogil:
    free(cpu.timeline)
    cpu.timeline = NULL


cdef tuple timeline_of(Cpu *cpu):
    cdef Timeline *timeline = <Timeline *>cpu.timeline
    cdef Span going_on[3]
    cdef bytes kept
    cdef uint32_t index
    note_turn(cpu, guest_time(cpu))
    kept = (<uint8_t *>timeline.spans)[:timeline.count * sizeof(Span)]
    # What goes on ends here as far as is known.
    going_on = [timeline.privilege, timeline.space, timeline.waiting]
    going_on[0].end = going_on[1].end = guest_time(cpu)
    for index in range(3):
        if going_on[index].end > going_on[index].begin:
            kept += (<uint8_t *>&going_on[index])[:sizeof(Span)]
    spans = numpy.frombuffer(kept, dtype=_SPAN)
    # By the beginning; what began at the same time is within what ends later.
    return spans[numpy.lexsort((~spans["end"], spans["begin"]))], timeline.dropped
