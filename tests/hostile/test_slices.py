"""A machine that is run in many slices is, to the cycle, the machine that is run in one."""

from __future__ import annotations

import os
import random

import pytest
from figures import without_host_time

import hvmx
from hvmx.machine import StopKind

from .guests import MODES, HostileGuest

GUESTS = 1_000 if os.environ.get("HVMX_NIGHTLY") == "1" else 25
CYCLES = 100_000


def run_to(machine: hvmx.Machine, end: int, slices: random.Random | None) -> dict[str, object]:
    """Run to a guest cycle, at once or in slices; all that the guest and its accounts have come to."""
    while True:
        cycles = end - machine.cpu.cycles
        if slices is not None:
            cycles = min(cycles, slices.choice((1, 10, 100, 1000, 5000)))
        stop = machine.run(cycles=cycles)
        if stop.kind is not StopKind.CYCLES or machine.cpu.cycles >= end:
            break
    return {
        "stop": stop.kind,
        "memory and registers": machine.state_hash(),
        **machine.cpu.registers(),
        **without_host_time(machine.statistics()),
    }


@pytest.mark.parametrize("mode", MODES)
def test_slices_change_no_cycle_no_exit_and_no_byte(mode: str) -> None:
    for seed in range(GUESTS):
        whole = run_to(HostileGuest(mode, seed, tame=True).machine, CYCLES, None)
        sliced = run_to(HostileGuest(mode, seed, tame=True).machine, CYCLES, random.Random(seed))
        different = {name: (whole[name], sliced[name]) for name in whole if whole[name] != sliced[name]}
        assert not different, f"guest {mode} {seed}, whole and in slices: {different}"
