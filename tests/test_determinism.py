"""A guest's run depends on nothing but the guest: not on how often run() returns, nor on what else runs."""

from __future__ import annotations

import pytest

from hvmx import guests
from hvmx.machine import Machine, StopKind

MEMORY = "64M"
WORKLOADS = "workloads=syscall,pgfault,timer-tick,ctx-switch,fork-wait"


def outcome(name: str, cycles: int | None) -> tuple[int, int, int, str]:
    """Guest cycles, instructions, exits and the state's hash at the end of a bundled guest, run in slices."""
    machine = Machine(MEMORY)
    machine.load(guests.image(name), pv=name.startswith("pv"), append=WORKLOADS)
    while machine.run(cycles).kind is StopKind.CYCLES:
        pass
    return machine.cpu.cycles, machine.cpu.instructions, machine.exits.total, machine.state_hash()


@pytest.mark.parametrize("name", guests.NAMES)
@pytest.mark.parametrize("cycles", [31_337, 1_000_003])
def test_slices_of_guest_cycles_add_up_to_one_long_run(name: str, cycles: int) -> None:
    assert outcome(name, cycles) == outcome(name, None)
