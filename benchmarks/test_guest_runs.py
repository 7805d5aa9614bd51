"""Host time of the bundled guest, whole runs of the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest
from peers import HVMX_RUN, Hvmx
from pytest_benchmark.fixture import BenchmarkFixture

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from golden_costs import COUNTS, MEMORY, Case, image_hash, read_golden

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
    options = (*BUILDS[build], "--memory", MEMORY, "--quiet", "--stats", str(stats))
    command = [*HVMX_RUN, *options, str(image(build))]
    runs: list[dict[str, Any]] = []
    host_seconds: list[float] = []

    def lap() -> None:
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        host_seconds.append(time.perf_counter() - begin)
        counted = json.loads(stats.read_text())
        exits = {reason: row["count"] for reason, row in sorted(counted["exits"].items())}
        runs.append({**{name: counted[name] for name in COUNTS}, "exits": exits})

    benchmark.pedantic(lap, rounds=LAPS)
    first = runs[0]
    assert all(run == first for run in runs)
    report.append(
        f"bundled guest {build}: {first['instructions'] / 1e6:.1f} M instructions, {first['guest_cycles'] / 1e6:.1f} M guest "
        f"cycles, {min(host_seconds):.2f} s of host time with the start of Python"
    )
    benchmark.extra_info.update(first)
    case = Case(build, "pv" if BUILDS[build] else "ept")
    golden = read_golden("skylake")[str(case)]
    if image_hash(case) not in golden:
        pytest.skip("timed; its image is another than those that tests/golden has the costs of")
    assert {**first, "operations": golden[image_hash(case)]["operations"]} == golden[image_hash(case)]
