"""Host time to boot Debian's kernels, beside QEMU's translator in the same run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from linux_guests import require_both, timed_output
from pytest_benchmark.fixture import BenchmarkFixture

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from guests import guest
from linux.initramfs import MARKER
from linux.kernels import COMMAND_LINE, KERNELS, MEMORY_BYTES, initramfs, run_command, vmlinux

LAPS: Final = 3
LIMIT: Final = 1.5
"""The most that hvmx may take, in units of what QEMU takes."""

#: How a kernel is started: its package's bzImage, which hvmx decompresses and QEMU's guest has to; and what gives both
#: the same work, the ELF file inside through its PVH entry, or where it has none the guest's own decompressor.
STARTS: Final = ("as packaged", "the same work")


def _qemu(image: Path, initrd: Path) -> list[str | Path]:
    options = f"-accel tcg -M pc -m {MEMORY_BYTES >> 20} -display none -nodefaults -no-reboot -serial stdio"
    return [
        *("qemu-system-x86_64", *options.split()),
        *("-append", COMMAND_LINE, "-initrd", initrd, "-kernel", image),
    ]


def _seconds_to_marker(command: Sequence[str | Path]) -> float:
    """Host seconds from the start of a process to the marker on its standard output."""
    output = b""
    with timed_output(command) as pieces:
        for seconds, octets in pieces:
            output += octets
            if MARKER.encode() in output:
                return seconds
    raise AssertionError(f"{command[0]} ended without the marker: {output[-1000:]!r}")


@pytest.mark.parametrize("start", STARTS)
def test_linux_boots_in_at_most_half_as_much_time_again_as_under_qemu(
    start: str, benchmark: BenchmarkFixture, report: list[str], tmp_path: Path
) -> None:
    require_both()
    commands: dict[str, tuple[Sequence[str | Path], Sequence[str | Path]]] = {}
    for kernel, (bits, _) in KERNELS.items():
        initrd = initramfs(kernel, tmp_path)
        same_work = start == STARTS[1]
        image = vmlinux(kernel, tmp_path) if same_work and bits == 64 else guest(kernel)
        options = ("--no-decompress",) if same_work and bits == 32 else ()
        commands[kernel] = (run_command(image, initrd, COMMAND_LINE, *options), _qemu(image, initrd))
    seconds: dict[str, tuple[list[float], list[float]]] = {kernel: ([], []) for kernel in commands}

    def lap() -> None:
        for kernel, pair in commands.items():
            for taken, command in zip(seconds[kernel], pair):
                taken.append(_seconds_to_marker(command))

    benchmark.pedantic(lap, rounds=LAPS)
    ratios = {}
    for kernel, (hvmx, qemu) in seconds.items():
        ratios[kernel] = min(hvmx) / min(qemu)
        benchmark.extra_info[kernel] = ratios[kernel]
        report.append(
            f"{kernel} to /init, {start}: {min(hvmx):.2f} s, QEMU TCG {min(qemu):.2f} s: {ratios[kernel]:.2f}x"
        )
    slow = {kernel: round(ratio, 2) for kernel, ratio in ratios.items() if ratio > LIMIT}
    assert not slow, f"more than {LIMIT} times QEMU's time: {slow}"
