# cython: language_level=3
"""What happens to the guest when: see timeline.h."""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.state.state cimport Cpu

cdef extern from "timeline.h" nogil:
    ctypedef struct Span:
        uint64_t begin, end, value
        uint32_t kind, number
    ctypedef struct Timeline:
        Span privilege, space, waiting
        uint64_t turn, count, dropped
        Span *spans
    uint32_t privilege_of(const Cpu *cpu)
    uint64_t span_begins(const Cpu *cpu)
    void note_span(Cpu *cpu, uint32_t kind, uint32_t number, uint64_t value, uint64_t begin)
    void note_entry(Cpu *cpu, uint32_t kind, uint32_t vector, uint64_t value)
    void note_turn(Cpu *cpu, uint64_t time)
    void note_wait(Cpu *cpu, uint64_t until)


# Begin, or begin again; MemoryError where the host has no room.
cdef int begin_timeline(Cpu *cpu) except -1
cdef void free_timeline(Cpu *cpu) noexcept nogil
# What has been noted: see Vcpu.timeline().
cdef tuple timeline_of(Cpu *cpu)
