# cython: language_level=3
"""From operations to host code: what blocks that are entered often become.

A trace is a row of neighbouring operations that the translator knows. It becomes one handler, which replaces that of its
first Op; the other Ops keep theirs. So whenever something is not as usual (a TLB miss, a watched page), a side exit goes
on with the handler of just that operation, with all of the guest's state in Cpu, and the translator needs no slow path of
its own.
"""
from hvmx.core.state.state cimport *

# Translate a block that has just been built once it has been entered Cpu.translate_after times.
cdef void watch_block(Cpu *cpu, Block *block) noexcept nogil
