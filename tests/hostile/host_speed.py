"""How long an instruction takes on the host when a guest does its worst: the storms of ``storms/storms.S``.

``python -m tests.hostile.host_speed [STORM ...]`` prints what each costs, beside QEMU's translator.
"""

from __future__ import annotations

import functools
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import hvmx
from hvmx.exits import Statistic
from hvmx.machine import StopKind

SOURCES = Path(__file__).parent / "storms"
MEMORY_MB = 64
QEMU = "qemu-system-i386"
QEMU_END_STATUS = 0x10 << 1 | 1
WINDOW = 0.1
"""Seconds of the host's processor over which an instruction's time is averaged."""
SLICE = 20_000
"""Guest cycles between two looks at the clock."""
MOST_NANOSECONDS, MOST_BESIDE_QEMU = 5_000, 3
"""What an instruction may take: the first, or so many times what it takes QEMU."""

STORMS = {
    "aliases": 25, "crossing": 8, "second_page": 20, "collisions": 8, "next_instruction": 350_000,
    "same_page": 3_000_000, "other_page": 400_000, "long_blocks": 220_000, "page_of_blocks": 1_000,
    "new_code": 1, "new_long_code": 4, "cr3": 650_000, "invlpg": 1_300_000, "flush_and_touch": 3_500,
    "wbinvd": 60_000, "tlb_misses": 500_000, "protection": 150_000, "paging": 120_000, "paging_modes": 80_000,
    "a20": 20_000, "code_segments": 40, "segments": 1_100_000, "page_tables": 300_000,
    "repeat_across_pages": 1_000, "repeat_over_code": 1_000, "repeat_device": 80, "crossing_accesses": 1_300_000,
    "breakpoints_armed": 700_000, "breakpoints_moved": 250_000, "single_step": 140_000, "exceptions": 400_000,
    "page_faults": 300_000, "rings": 300_000, "tasks": 100_000, "transcendentals": 160_000,
    "remainders": 1_000_000, "denormals": 12_000_000, "strings_compared": 500_000, "state_images": 300_000,
    "decimals": 700_000, "ciphers": 1_000_000, "frames": 280_000,
}  # fmt: skip
"""Rounds that take a good part of a second."""


@functools.cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="hvmx-storms-")


@functools.cache
def image(storm: str, rounds: int) -> Path:
    """The storm as a Multiboot image."""
    path = Path(_directory().name) / f"{storm}-{rounds}.elf"
    command = [
        *("gcc", "-m32", "-ffreestanding", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none"),
        *("-Wl,-T,storms.ld", "-Wl,--no-warn-rwx-segments", f"-DSTORM_{storm}", f"-DROUNDS={rounds}"),
        *("storms.S", "-o", path),
    ]
    subprocess.run(command, cwd=SOURCES, check=True)
    return path


@dataclass(frozen=True)
class Cost:
    """Host nanoseconds per instruction, outside handlers: of the whole run, and of its worst 100 ms."""

    mean: float
    worst: float
    instructions: int


def in_handlers(machine: hvmx.Machine) -> tuple[float, int]:
    """Host seconds that handlers have taken, and how often one was called."""
    exits = [Statistic(*row) for row in machine.cpu.exit_statistics().values()]
    return sum(exit.host_ns for exit in exits) / 1e9, sum(exit.count for exit in exits)


def run_hvmx(storm: str, rounds: int, paging: str, seconds: float = 60) -> Cost:
    """Runs the storm to its end, or for so long."""
    machine = hvmx.Machine(MEMORY_MB << 20, paging=paging)
    machine.load(image(storm, rounds))
    looks: deque[tuple[float, int]] = deque([(0.0, 0)])
    worst = elapsed = handled = 0.0
    while True:
        start = time.thread_time()
        stop = machine.run(cycles=SLICE)
        taken = time.thread_time() - start
        before = handled
        handled, exits = in_handlers(machine)
        elapsed += max(taken - (handled - before), 0)
        # An iteration of a string instruction that exits is one more.
        looks.append((elapsed, machine.cpu.instructions + exits))
        while len(looks) > 2 and elapsed - looks[1][0] >= WINDOW:
            looks.popleft()
        (at, instructions), (until, more) = looks[0], looks[-1]
        if until - at >= WINDOW:
            worst = max(worst, (until - at) / max(more - instructions, 1))
        if stop.kind is not StopKind.CYCLES or elapsed > seconds:
            break
    assert stop.kind in (StopKind.CYCLES, StopKind.HALTED), f"{storm} ended by {stop}"
    instructions = looks[-1][1]
    mean = elapsed / instructions
    return Cost(mean * 1e9, max(worst, mean) * 1e9, instructions)


def run_qemu(storm: str, rounds: int, instructions: int) -> float:
    """Host nanoseconds per instruction under QEMU's translator: its start is subtracted."""
    if shutil.which(QEMU) is None:
        raise FileNotFoundError(QEMU)

    def seconds(path: Path) -> float:
        options = f"-accel tcg -cpu max -M pc -m {MEMORY_MB} -display none -nodefaults -no-reboot"
        command = [QEMU, *options.split(), "-device", "isa-debug-exit,iobase=0xf4", "-kernel", str(path)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process = subprocess.run(command, check=False, timeout=300, capture_output=True, text=True)
        assert process.returncode == QEMU_END_STATUS, (
            f"{storm}: status {process.returncode}, {process.stderr}"
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    start = min(seconds(image("segments", 1)) for _ in range(2))
    return max(seconds(image(storm, rounds)) - start, 0) / instructions * 1e9


def table(storms: list[str], pagings: tuple[str, ...] = ("ept", "shadow")) -> None:
    print(f"{'storm':20} {'paging':6} {'mean':>8} {'worst':>8} {'QEMU':>8}  ns per instruction")
    for storm in storms:
        rounds = STORMS[storm]
        costs = {paging: run_hvmx(storm, rounds, paging) for paging in pagings}
        qemu = run_qemu(storm, rounds, costs[pagings[0]].instructions)
        for paging, cost in costs.items():
            mark = "!" if cost.worst > max(MOST_NANOSECONDS, MOST_BESIDE_QEMU * qemu) else ""
            print(f"{storm:20} {paging:6} {cost.mean:8.1f} {cost.worst:8.1f} {qemu:8.1f} {mark}", flush=True)


if __name__ == "__main__":
    table(sys.argv[1:] or list(STORMS))
