"""A paravirtual guest that is run in slices and steps is the one that is run at once."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
from figures import without_host_time

import hvmx
from hvmx import guests
from hvmx.machine import StopKind

NIGHTLY = os.environ.get("HVMX_NIGHTLY") == "1"
SEEDS = range(200) if NIGHTLY else range(2)
CUTS = 1_000_000 if NIGHTLY else 4_000


def booted(translate_after: int | None) -> hvmx.Machine:
    machine = hvmx.Machine("64M")
    machine.load(guests.image("pv64"), pv=True)
    machine.cpu.translate_after = translate_after
    return machine


def figures(machine: hvmx.Machine) -> dict[str, object]:
    return {
        "state": machine.state_hash(),
        **machine.cpu.registers(),
        **without_host_time(machine.statistics()),
        "last exits": machine.cpu.last_exits(),
    }


def parts(seed: int) -> Iterator[int]:
    """Runs of so many cycles, 0 being a step: bursts of short ones, and long ones between."""
    rng = random.Random(seed)
    while True:
        for _ in range(rng.randrange(200)):
            yield rng.choice((0, 0, 1, 1, 2, 10, 100))
        yield rng.randrange(1, 100_000)


@pytest.mark.parametrize("translate_after", [None, 0])
def test_slices_and_steps_are_the_whole_run(translate_after: int | None) -> None:
    whole = booted(translate_after)
    assert whole.run().kind is StopKind.POWEROFF
    for seed in SEEDS:
        cut = booted(translate_after)
        for _, cycles in zip(range(CUTS), parts(seed), strict=False):
            stop = cut.run(cycles=cycles) if cycles else cut.step()
            if stop.kind is StopKind.POWEROFF:
                break
        else:
            assert cut.run().kind is StopKind.POWEROFF
        expected, found = figures(whole), figures(cut)
        different = {
            name: (expected[name], found[name]) for name in expected if expected[name] != found[name]
        }
        assert not different, f"seed {seed}: {different}"
