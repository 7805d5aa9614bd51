# cython: language_level=3
"""What the exits of one processor came to: by reason, and by the port, MSR, register, vector or page concerned."""
from libc.stdint cimport uint32_t, uint64_t

from hvmx.core.state.state cimport *

cdef enum:
    REASONS = 80
    PAST_EXITS = 16


ctypedef struct Tally:
    uint64_t count, cycles, least, most, host_ns, host_least, host_most


# The last exit of one kind, by its place among all exits, and how many of the kind there were since the first.
ctypedef struct PastExit:
    uint64_t place, cycle, rip, number, count, first_cycle
    uint32_t reason


cdef class ExitCounts:
    cdef Tally tallies[REASONS]
    cdef dict details              # by `hidden` keys
    cdef uint64_t factor, inverse  # modulo 2^64, drawn by the host
    cdef PastExit past[PAST_EXITS]
    cdef uint32_t past_count, latest
    cdef uint64_t exits

    cdef uint64_t hidden(self, uint64_t key) noexcept
    # The exit in cpu.exit goes to its handler now. Gives what it concerns, for `ended`.
    cdef uint64_t began(self, Cpu *cpu) noexcept
    # It took this long, in units of 1/CYCLE_FRACTION cycle and in host time.
    cdef int ended(self, uint32_t reason, uint64_t number, uint64_t units, uint64_t host_ns) except -1
    cdef dict by_reason(self)
    cdef dict by_number(self)
    cdef void remember(self, Cpu *cpu, uint64_t number) noexcept
    cdef PastExit *kind_of(self, uint32_t reason, uint64_t number, uint64_t cycle) noexcept
    cdef list last(self)
