"""A calibration from beginning to end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hvmx.cost.native import HostTooNoisy, Measured, NativeError, host_problem, measure

from .assembler import assemble
from .bench import Bench, Finding, Progress, Step
from .beside import beside_steps
from .classes import class_steps, sized_of
from .host import Host, read_host
from .loops import REPETITIONS, SCRATCH, Loop, Stopwatch
from .memory import far_steps, near_steps
from .pipeline import pipeline_steps
from .profile_file import profile_text
from .statistics import Unsettled, quiet

LONGEST = 140.0
"""Seconds of host time after which nothing more is measured; what is left stays the base's."""

_LONGEST_AGAIN = 90.0
"""Seconds after which nothing is measured a second time, so that time is left for the rest."""

_QUICK_REPETITIONS = 20

_CHECKS = 40
"""Series of one loop by which it is judged whether this computer is quiet enough."""

_MOST_UNSETTLED = 0.25
"""With more than this share of the figures unsettled, the others are not to be trusted either."""

_READINGS = 20
"""Runs of what reads the time-stamp counter: some of them are undisturbed."""

_MHZ = 1_000_000


class CannotCalibrate(Exception):
    """Nothing was measured, for a reason that the message says."""


@dataclass(frozen=True)
class Calibration:
    """What came of it."""

    host: Host
    base_name: str
    base: Mapping[str, Any]
    findings: tuple[Finding, ...]
    missing: Mapping[str, str]
    """Why figures that it was about stay the base's."""
    beside: Mapping[str, str]
    """Figures of this host that are none of the profile."""
    source: str
    """The title of the source of what was measured."""

    def base_entry(self, key: str) -> Mapping[str, Any]:
        """What the base has where a finding goes."""
        table, _, name = key.partition(".")
        entries = self.base[table]
        entry: Mapping[str, Any] = entries[name] if name in entries else entries[sized_of(name)]
        return entry

    def text(self) -> str:
        """The profile's file."""
        return profile_text(
            self.base_name, self.base, f"{self.host.title}, calibrated", self.source, self.findings
        )


def calibrate(
    base_name: str,
    base: Mapping[str, Any],
    *,
    quick: bool = False,
    progress: Progress = lambda done, steps, key: None,
) -> Calibration:
    """Measure this computer's processor. ``base`` is the content of the profile that says what is not measured.

    ``quick`` makes fewer runs, and leaves out buffers, caches and memory. ``CannotCalibrate`` on other hosts than
    x86-64 Linux, and on one too noisy.
    """
    problem = host_problem()
    if problem:
        raise CannotCalibrate(problem)
    host = read_host()
    repetitions = _QUICK_REPETITIONS if quick else REPETITIONS
    start = time.monotonic()
    watch = Stopwatch(repetitions, until=start + LONGEST)
    _require_quiet(watch)
    bench = Bench(host, base, watch)
    begun = _counter()
    core = [*pipeline_steps(), *class_steps(bench), *near_steps()]
    _take(bench, core, progress)
    bench.again(progress, start + _LONGEST_AGAIN)
    # What was timed is known now; what could not be has a second chance.
    unsettled = _take(bench, core, progress)
    if unsettled > _MOST_UNSETTLED * len(core):
        raise CannotCalibrate(
            f"this computer is too noisy to measure on: {unsettled} of {len(core)} measurements came out different "
            "each time, or did not end in time"
        )
    _take(bench, [*([] if quick else far_steps()), *beside_steps()], progress)
    _clock(bench, begun, _counter())
    if quick:
        bench.missing["tlb, caches"] = "left out by --quick"
    source = (
        f"hvmx calibrate on {host.title}{', in a virtual machine' if host.under_hypervisor else ''}, "
        f"{time.strftime('%Y-%m-%d')}: core cycles, the middle of the lowest three series that agree, of up to "
        f"{repetitions} runs each (in brackets: how far those three are apart, and how many series were made)"
    )
    return Calibration(
        host, base_name, base, tuple(bench.findings.values()), bench.missing, bench.beside, source
    )


def _take(bench: Bench, steps: Sequence[Step], progress: Progress) -> int:
    """Carry out the steps; how many found no figure because it differed each time."""
    unsettled = 0
    for number, step in enumerate(steps):
        progress(number, len(steps), step.key)
        try:
            step.measure(bench)
        except Unsettled as problem:
            unsettled += 1
            bench.missing[step.key] = str(problem)
        except NativeError as problem:
            bench.missing[step.key] = str(problem)
    progress(len(steps), len(steps), "")
    return unsettled


def _require_quiet(watch: Stopwatch) -> None:
    """A loop that keeps all pipes busy: a neighbour on the same core shows in it, and so does an interrupt."""
    loop = Loop(
        "; ".join(f"add {register}, rbx" for register in ("rax", "r8", "r9", "r10", "r11", "rbp")), copies=16
    )
    values: list[float] = []
    for _ in range(_CHECKS):
        try:
            values.append(watch.once(loop))
        except HostTooNoisy:
            values.append(float("inf"))
    problem = quiet(values)
    if problem:
        raise CannotCalibrate(
            f"this computer is too noisy to measure on: {problem}; try again when less else is running"
        )


@dataclass(frozen=True)
class _Reading:
    """The time-stamp counter at a time."""

    ticks: int
    seconds: float


def _counter(run: Callable[..., Measured] = measure) -> _Reading | None:
    """The reading is in the last of some runs, so half of what all took is how far the time may be off."""
    code = assemble("rdtsc; shl rdx, 32; or rax, rdx; ret")
    before = time.monotonic()
    try:
        ticks = run(code, data_bytes=SCRATCH, repetitions=_READINGS).results[-1]
    except NativeError:
        return None
    return _Reading(ticks, (before + time.monotonic()) / 2)


def _clock(bench: Bench, begun: _Reading | None, ended: _Reading | None) -> None:
    if begun is None or ended is None:
        bench.miss("clock.second", "the time-stamp counter could not be read undisturbed")
        return
    seconds = ended.seconds - begun.seconds
    hertz = (ended.ticks - begun.ticks) / seconds
    bench.find(
        "clock.second",
        {"cycles": round(hertz / _MHZ) * _MHZ},
        f"ticks of the time-stamp counter in {seconds:.0f} seconds, rounded to 1 MHz",
    )
