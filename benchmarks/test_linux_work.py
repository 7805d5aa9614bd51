"""Host time of user programs under Debian's kernels, beside QEMU's translator in the same run."""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import pytest
from expected import assert_expected, counts
from linux_guests import require_both, timed_output
from pytest_benchmark.fixture import BenchmarkFixture

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from guests import guest
from linux.initramfs import build_shell_initramfs
from linux.kernels import KERNELS, QUIET_COMMAND_LINE, qemu_run_command, run_command

LAPS: Final = 2

#: What busybox does for a second or so, by name; all output goes to /dev/null.
JOBS: Final = {
    "shell loop": "i=0; while [ $i -lt 30000 ]; do i=$((i + 1)); case $i in *7) j=$i;; esac; done",
    "awk": "awk 'BEGIN { for (i = 0; i < 150000; i++) s += i * 1.5 % 7; print s }'",
    "sort": "seq 30000 | sort -rn",
    "fork": "for i in $(seq 300); do (true); done",
    "exec": "for i in $(seq 100); do /bin/true; done",
    "gzip": "seq 100000 | gzip | gunzip",
    "sed and grep": "seq 20000 | sed 's/7/seven/g' | grep -c 'seven.*3'",
    "sha256sum": "dd if=/dev/zero bs=64k count=64 2>/dev/null | sha256sum",
}


def script() -> str:
    """Each job between two lines on the console, then the end."""
    lines = [f"echo 'begin: {name}'\n{{ {job}; }} > /dev/null\necho 'end: {name}'\n" for name, job in JOBS.items()]
    return "".join(lines) + "poweroff -f\n"


def seconds_by_job(command: list[str], *, to_its_end: bool) -> dict[str, float]:
    """Host seconds between the two lines of each job, as they come out of the process."""
    begun, rest, taken = 0.0, b"", {}
    with timed_output(command) as pieces:
        for seconds, octets in pieces:
            *lines, rest = (rest + octets).split(b"\n")
            for line in lines:
                mark, _, name = line.decode(errors="replace").strip().partition(": ")
                if mark == "begin":
                    begun = seconds
                elif mark == "end":
                    taken[name] = seconds - begun
            if len(taken) == len(JOBS):
                while to_its_end and next(pieces, None):
                    pass
                return taken
    raise AssertionError(f"{command[0]} ended after {list(taken)}")


@pytest.mark.parametrize("kernel", ["linux-686", "linux-cloud-amd64"])
def test_user_programs_beside_qemu(
    kernel: str, benchmark: BenchmarkFixture, report: list[str], tmp_path: Path
) -> None:
    require_both()
    initrd = build_shell_initramfs(tmp_path, guest(KERNELS[kernel][1]), script())
    stats = tmp_path / "stats.json"
    commands = (
        run_command(guest(kernel), initrd, QUIET_COMMAND_LINE, "--stats", stats),
        [str(word) for word in qemu_run_command(kernel, initrd, QUIET_COMMAND_LINE, tmp_path)],
    )
    counted: list[dict[str, Any]] = []
    seconds: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))

    def lap() -> None:
        for side, command in enumerate(commands):
            for name, taken in seconds_by_job(command, to_its_end=side == 0).items():
                seconds[name][side].append(taken)
        counted.append(counts(json.loads(stats.read_text())))

    benchmark.pedantic(lap, rounds=LAPS)
    ratios = {}
    for name, (hvmx, qemu) in seconds.items():
        ratios[name] = min(hvmx) / min(qemu)
        benchmark.extra_info[name] = ratios[name]
        report.append(f"{kernel}, {name}: {min(hvmx):.2f} s, QEMU TCG {min(qemu):.2f} s: {ratios[name]:.2f}x")
    mean = statistics.geometric_mean(ratios.values())
    report.append(f"{kernel}, geometric mean of user work: {mean:.2f}x QEMU TCG's time")
    assert_expected(benchmark, f"{kernel}, user work", counted, guest(kernel), initrd)
