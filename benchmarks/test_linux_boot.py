"""Host time to boot Debian's kernels, beside QEMU's translator in the same run."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from expected import assert_expected, counts
from linux_guests import require_both, timed_output
from peers import HvmxAllPredicted, all_branches_predicted
from pytest_benchmark.fixture import BenchmarkFixture

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from guests import guest
from linux.initramfs import MARKER
from linux.kernels import COMMAND_LINE, KERNELS, MEMORY_BYTES, initramfs, run_command, vmlinux

LAPS: Final = 3
LIMIT: Final = 1.5
"""The most that hvmx may take, in units of what QEMU takes."""
MEAN_LIMIT: Final = 1.25
"""The same, as packaged, in the geometric mean of the kernels."""

#: How a kernel is started: its package's bzImage, which hvmx decompresses and QEMU's guest has to; and what gives both
#: the same work, the ELF file inside through its PVH entry, or where it has none the guest's own decompressor.
STARTS: Final = ("as packaged", "the same work")
WITHOUT_PREDICTOR: Final = HvmxAllPredicted.name


def _qemu(image: Path, initrd: Path) -> list[str | Path]:
    options = f"-accel tcg -M pc -m {MEMORY_BYTES >> 20} -display none -nodefaults -no-reboot -serial stdio"
    return [
        *("qemu-system-x86_64", *options.split()),
        *("-append", COMMAND_LINE, "-initrd", initrd, "-kernel", image),
    ]


def _seconds_to_marker(command: Sequence[str | Path], *, to_its_end: bool) -> float:
    """Host seconds from the start of a process to the marker on its standard output."""
    output = b""
    with timed_output(command) as pieces:
        for seconds, octets in pieces:
            output += octets
            if MARKER.encode() in output:
                while to_its_end and next(pieces, None):
                    pass
                return seconds
    raise AssertionError(f"{command[0]} ended without the marker: {output[-1000:]!r}")


@pytest.mark.parametrize("start", STARTS)
def test_linux_boots_in_at_most_half_as_much_time_again_as_under_qemu(
    start: str, benchmark: BenchmarkFixture, report: list[str], tmp_path: Path
) -> None:
    require_both()
    all_predicted = ("--profile", str(all_branches_predicted(tmp_path)))
    models = ("hvmx",) if start == STARTS[1] else ("hvmx", WITHOUT_PREDICTOR)
    commands: dict[tuple[str, str], Sequence[str | Path]] = {}
    stats: dict[tuple[str, str], Path] = {}
    images: dict[str, tuple[Path, Path]] = {}
    for kernel, (bits, _) in KERNELS.items():
        initrd = initramfs(kernel, tmp_path)
        same_work = start == STARTS[1]
        image = vmlinux(kernel, tmp_path) if same_work and bits == 64 else guest(kernel)
        options = ("--no-decompress",) if same_work and bits == 32 else ()
        for model in models:
            profile = all_predicted if model == WITHOUT_PREDICTOR else ()
            stats[kernel, model] = tmp_path / f"{kernel}, {model}.json"
            said = ("--stats", stats[kernel, model])
            commands[kernel, model] = run_command(image, initrd, COMMAND_LINE, *options, *profile, *said)
        images[kernel] = (image, initrd)
        commands[kernel, "QEMU TCG"] = _qemu(image, initrd)
    seconds: dict[tuple[str, str], list[float]] = {run: [] for run in commands}
    counted: dict[tuple[str, str], list[dict[str, Any]]] = {run: [] for run in stats}

    def lap() -> None:
        for run, command in commands.items():
            seconds[run].append(_seconds_to_marker(command, to_its_end=run in stats))
            if run in stats:
                counted[run].append(counts(json.loads(stats[run].read_text())))

    benchmark.pedantic(lap, rounds=LAPS)
    ratios: dict[str, dict[str, float]] = {model: {} for model in models}
    for model, of in ratios.items():
        for kernel in KERNELS:
            hvmx, qemu = min(seconds[kernel, model]), min(seconds[kernel, "QEMU TCG"])
            of[kernel] = hvmx / qemu
            report.append(f"{kernel} to /init, {start}: {model} {hvmx:.2f} s, QEMU TCG {qemu:.2f} s: {of[kernel]:.2f}x")
        mean = statistics.geometric_mean(of.values())
        benchmark.extra_info[model] = {**of, "mean": mean}
        report.append(f"geometric mean, {start}: {model} {mean:.2f}x QEMU TCG")
    for (kernel, model), laps in counted.items():
        assert_expected(benchmark, f"{model}, {kernel}, {start}", laps, *images[kernel])
    if start == STARTS[0]:
        assert statistics.geometric_mean(ratios["hvmx"].values()) <= MEAN_LIMIT
    slow = {kernel: round(ratio, 2) for kernel, ratio in ratios["hvmx"].items() if ratio > LIMIT}
    assert not slow, f"more than {LIMIT} times QEMU's time: {slow}"
