# cython: language_level=3
"""From operations to host code: what the blocks that are entered often become.

A stretch of neighbouring operations that the translator knows becomes one handler, which stands in the Op of the first.
The other Ops stay as they are. So whatever is not as usual (a TLB miss, a page that is watched) goes on with the handler
of just that operation, with all of the guest's state in Cpu, and the translator needs no slow path of its own.
"""
from hvmx.core.state.state cimport *

# Translate a block that has just been built once it has been entered Cpu.translate_after times.
cdef void watch_block(Cpu *cpu, Block *block) noexcept nogil
