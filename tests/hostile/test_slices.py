"""A machine that is run in slices, in steps or in both is, to the cycle, the machine that is run at once."""

from __future__ import annotations

import os
import random

import pytest
from figures import without_host_time

import hvmx
from hvmx.machine import StopKind

from .guests import MODES, HostileGuest

NIGHTLY = os.environ.get("HVMX_NIGHTLY") == "1"
GUESTS = 1_000 if NIGHTLY else 25
CYCLES = 100_000
STEPPED_GUESTS = 1_000 if NIGHTLY else 6
STEPPED_CYCLES = 20_000


def accounts(machine: hvmx.Machine, stop: StopKind) -> dict[str, object]:
    """All that the guest and its accounts have come to."""
    return {
        "stop": stop,
        "memory and registers": machine.state_hash(),
        **machine.cpu.registers(),
        **without_host_time(machine.statistics()),
        "last exits": machine.cpu.last_exits(),
    }


def run_to(machine: hvmx.Machine, end: int, slices: random.Random | None) -> dict[str, object]:
    """Run to a guest cycle, at once or in slices."""
    while True:
        cycles = end - machine.cpu.cycles
        if slices is not None:
            cycles = min(cycles, slices.choice((1, 10, 100, 1000, 5000)))
        stop = machine.run(cycles=cycles)
        if stop.kind is not StopKind.CYCLES or machine.cpu.cycles >= end:
            return accounts(machine, stop.kind)


def step_to(machine: hvmx.Machine, end: int, rng: random.Random, chance_of_a_step: float) -> int:
    """Run to a guest cycle or a little later, by steps and slices of one cycle and more; where that was."""
    while True:
        left = end - machine.cpu.cycles
        if rng.random() < chance_of_a_step:
            stop = machine.step()
        else:
            stop = machine.run(cycles=min(left, rng.choice((1, 1, 3, 10, 100, 777, 5000))))
        if stop.kind not in (StopKind.CYCLES, StopKind.STEP) or machine.cpu.cycles >= end:
            return machine.cpu.cycles


def differences(whole: dict[str, object], other: dict[str, object]) -> dict[str, object]:
    return {name: (whole[name], other[name]) for name in whole if whole[name] != other[name]}


@pytest.mark.parametrize("mode", MODES)
def test_slices_change_no_cycle_no_exit_and_no_byte(mode: str) -> None:
    for seed in range(GUESTS):
        whole = run_to(HostileGuest(mode, seed, tame=True).machine, CYCLES, None)
        sliced = run_to(HostileGuest(mode, seed, tame=True).machine, CYCLES, random.Random(seed))
        different = differences(whole, sliced)
        if seed % 4 in (1, 2):
            different.pop("blocks_translated", None)  # going on within a block is no entry of it
        assert not different, f"guest {mode} {seed}, whole and in slices: {different}"


@pytest.mark.parametrize("mode", MODES)
def test_steps_change_no_cycle_no_exit_and_no_byte(mode: str) -> None:
    for seed in range(STEPPED_GUESTS):
        for translate_after in (None, 0):
            for chance_of_a_step in (1, 0.5, 0):
                stepped = HostileGuest(mode, seed, tame=True).machine
                whole = HostileGuest(mode, seed, tame=True).machine
                stepped.cpu.translate_after = whole.cpu.translate_after = translate_after
                end = step_to(stepped, STEPPED_CYCLES, random.Random(seed), chance_of_a_step)
                whole.run(cycles=end)
                # What is due where the steps ended is taken by the next run.
                both = [accounts(machine, machine.run(cycles=1000).kind) for machine in (whole, stepped)]
                different = differences(*both)
                what = f"guest {mode} {seed}, translate_after={translate_after}, whole and with {chance_of_a_step:.0%} steps"
                assert not different, f"{what}: {different}"
