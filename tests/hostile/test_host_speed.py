"""No guest makes its host slow out of measure. `HVMX_NIGHTLY=1` runs the storms at length, beside QEMU."""

from __future__ import annotations

import os
import shutil

import pytest

from .host_speed import MOST_BESIDE_QEMU, MOST_NANOSECONDS, QEMU, STORMS, run_hvmx, run_qemu

NIGHTLY = os.environ.get("HVMX_NIGHTLY") == "1"
SHORTER = 10
LENIENCE = 4
"""So many times as long may an instruction take where nobody knows how busy the host is, or how slow."""


@pytest.mark.parametrize("paging", ["ept", "shadow"])
@pytest.mark.parametrize("storm", STORMS)
def test_a_storm_does_not_make_instructions_slow_out_of_measure(storm: str, paging: str) -> None:
    for _ in range(2):  # a host that stands still for a moment is asked again; what is slow by itself is slow again
        cost = run_hvmx(storm, max(STORMS[storm] // SHORTER, 1), paging, seconds=1)
        if cost.worst <= LENIENCE * MOST_NANOSECONDS:
            break
    assert cost.worst <= LENIENCE * MOST_NANOSECONDS, (
        f"{storm} under {paging}: {cost.worst:.0f} ns per instruction in the worst 100 ms, {cost.mean:.0f} in all"
    )


@pytest.mark.parametrize("storm", STORMS if NIGHTLY else ["next_instruction"])
def test_a_storm_costs_at_most_5_us_an_instruction_or_three_times_what_it_costs_qemu(storm: str) -> None:
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    for paging in ("ept", "shadow"):
        cost = run_hvmx(storm, STORMS[storm], paging)
        qemu = run_qemu(storm, STORMS[storm], cost.instructions)
        figures = f"{storm} under {paging}: {cost.worst:.0f} ns per instruction in the worst 100 ms, QEMU {qemu:.0f}"
        print(figures)
        assert cost.worst <= max(MOST_NANOSECONDS, MOST_BESIDE_QEMU * qemu), figures
