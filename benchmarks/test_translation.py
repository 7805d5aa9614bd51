"""Host time of the timed kernels as translated and as interpreted code."""

from __future__ import annotations

import time
from typing import Any, Final

import images
import pytest
from expected import assert_expected, counts
from images import FULL_ROUNDS, Kernel
from pytest_benchmark.fixture import BenchmarkFixture

pytest.importorskip("hvmx.machine", exc_type=ImportError)

import hvmx

LAPS: Final = 3
SHARE: Final = 15
"""Of the full length."""
LIMIT: Final = 1.1
"""The most that translated code may take, in units of interpreted code's time: of `matrix`, which is SSE2, little is
translated."""


def _run(kernel: Kernel, translated: bool) -> tuple[float, dict[str, Any]]:
    """Host seconds; guest cycles and other counts."""
    machine = hvmx.Machine(memory="64M", profile="skylake")
    machine.load(images.multiboot(kernel))
    if not translated:
        machine.cpu.translate_after = None
    start = time.perf_counter()
    machine.run()
    return time.perf_counter() - start, counts(machine.statistics())


@pytest.mark.parametrize("name", FULL_ROUNDS)
def test_translated_code_takes_no_more_host_time_and_the_same_guest_cycles(
    name: str, benchmark: BenchmarkFixture, report: list[str]
) -> None:
    seconds: dict[bool, list[float]] = {True: [], False: []}
    kernel = Kernel(name, FULL_ROUNDS[name] // SHARE)
    counted: list[dict[str, Any]] = []

    def lap() -> None:
        for translated, taken in seconds.items():
            elapsed, found = _run(kernel, translated)
            taken.append(elapsed)
            counted.append(found)

    benchmark.pedantic(lap, rounds=LAPS)
    ratio = min(seconds[True]) / min(seconds[False])
    benchmark.extra_info["translated / interpreted"] = ratio
    report.append(f"{name}: translated code takes {ratio:.2f}x the host time of interpreted code")
    assert ratio <= LIMIT
    assert_expected(benchmark, f"translated or not, {kernel}", counted, images.multiboot(kernel))
