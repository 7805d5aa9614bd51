"""Host time of the bundled guest, whole runs of the command line."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Final

import pytest
from peers import HVMX_RUN, Hvmx
from pytest_benchmark.fixture import BenchmarkFixture

BUILDS: Final = {"hvm32": (), "hvm64": (), "pv64": ("--pv",)}
LAPS: Final = 3


@pytest.mark.parametrize("build", BUILDS)
def test_the_bundled_guest_takes_the_same_guest_cycles_each_time(
    build: str, benchmark: BenchmarkFixture, report: list[str], tmp_path: Path
) -> None:
    if reason := Hvmx().missing():
        pytest.skip(reason)
    from hvmx.guests import image

    stats = tmp_path / "stats.json"
    command = [*HVMX_RUN, *BUILDS[build], "--quiet", "--stats", str(stats), str(image(build))]
    runs: list[tuple[int, int]] = []
    host_seconds: list[float] = []

    def lap() -> None:
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        host_seconds.append(time.perf_counter() - begin)
        counted = json.loads(stats.read_text())
        runs.append((counted["guest_cycles"], counted["instructions"]))

    benchmark.pedantic(lap, rounds=LAPS)
    assert len(set(runs)) == 1, f"guest cycles and instructions differ between runs: {runs}"
    cycles, instructions = runs[0]
    report.append(
        f"bundled guest {build}: {instructions / 1e6:.1f} M instructions, {cycles / 1e6:.1f} M guest cycles,"
        f" {min(host_seconds):.2f} s of host time with the start of Python"
    )
