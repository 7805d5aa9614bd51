"""A guest that is run in slices ends as one that is run at once: the same cycles, instructions and state."""

from __future__ import annotations

import pytest

core = pytest.importorskip("hvmx.core.vcpu", reason="the core is not built")

CODE, TARGET = 0x1000, 20_000
# mov di, 0x4000; mov cx, 300; inc ax; inc ax; rep stosb; then 70 times inc ax, and again
LOOP = bytes.fromhex("bf0040 b92c01 40 40 f3aa") + b"\x40" * 70 + bytes.fromhex("ebae")


def state_at(cycles: int, slice_cycles: int) -> tuple[int, ...]:
    """Cycles, instructions and registers at the first stop at or after `cycles`."""
    cpu = core.Vcpu(memory_bytes=1 << 20)
    cpu.set_segment("cs", 0, 0, 0xFFFF, 0x9B)
    cpu.set_segment("es", 0, 0, 0xFFFF, 0x93)
    cpu.write(CODE, LOOP)
    cpu.rip = CODE
    while cpu.cycles < cycles:
        cpu.run(cycles=min(slice_cycles, cycles - cpu.cycles))
    return cpu.cycles, cpu.instructions, cpu.rip, cpu.rax, cpu.rcx, cpu.rdi


@pytest.mark.parametrize("slice_cycles", [1, 2, 7, 31, 997])
def test_slices_end_where_one_run_ends(slice_cycles: int) -> None:
    for end in range(TARGET, TARGET + 5):
        assert state_at(end, slice_cycles) == state_at(end, end)
