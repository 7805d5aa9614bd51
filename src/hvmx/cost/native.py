"""Runs user-mode machine code on the processor of this host, and says how many core cycles it takes there.

Core cycles are those of the host's processor: neither guest cycles, which the model counts, nor host time. They are
ticks of the time-stamp counter, scaled by what a chain of dependent additions of known length takes just before and
just after (native_child.c), so the core's changing frequency cancels. The code runs in a child process of its own.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvmx.cost import native_child
from hvmx.cost.native_child import (
    CHAIN_CYCLES,
    CODE_ADDRESS,
    DATA_ADDRESS,
    EMPTY_SAMPLES,
    LARGEST_CODE,
    LARGEST_DATA,
    STACK_ADDRESS,
    STACK_BYTES,
)

__all__ = [
    "CODE_ADDRESS", "DATA_ADDRESS", "NOISY", "STACK_ADDRESS", "STACK_BYTES", "HostTooNoisy", "Measured", "NativeError",
    "host_problem", "measure",
]  # fmt: skip

NOISY = 0.05
"""A spread above this says that others were using the processor, or that the code does not always take as long."""

AGREEMENT = 0.02
"""How far the two chains around a sample may be apart: an interrupt in one, or a change of frequency, sets it aside."""

SLOWED = 0.05
"""How much slower than the fastest chain of the same child both may be. Slower ones were held up, by who shares the core
say, and would make the code between them look faster than it is."""

BEST = 0.1
"""The share of the samples that counts as the best: what disturbs only adds, and the very best is an outlier itself."""

_FEWEST = 0.1
"""The share of the samples that must be left once the disturbed ones are set aside."""

_SAMPLE = np.dtype([("before", "<u8"), ("ticks", "<u8"), ("after", "<u8"), ("result", "<u8")])
_HEAD = np.dtype([("problem", "<u4"), ("step", "<u4"), ("done", "<u8")])
_STEPS = {1: "the code", 2: "the way into 32-bit mode", 3: "the stack", 4: "the data", 5: "the rights of the code", 6: "32-bit mode"}


class NativeError(Exception):
    """The code did not run to its end: it crashed, hung or could not be placed; or this host cannot run it."""


class HostTooNoisy(NativeError):
    """Nearly every run was disturbed, so nothing can be said."""


@dataclass(frozen=True)
class Measured:
    """What a piece of code takes on this host's processor."""

    cycles: float
    """Core cycles of one call, without the call: the best tenth of the repetitions take at most so many."""
    spread: float
    """How far the median lies above that, as a share of it."""
    repetitions: int
    """Those that count: undisturbed, by the chains around them."""
    ticks_per_cycle: float
    """Ticks of the time-stamp counter in a core cycle, meanwhile."""
    results: tuple[int, ...]
    """What the code left in RAX (EAX), repetition by repetition, the disturbed ones too."""


def host_problem() -> str | None:
    """Why this host cannot run code natively, or None where it can."""
    if not native_child.CAN_RUN:
        return f"machine code is run natively on x86-64 Linux, and this is {os.uname().sysname} on {os.uname().machine}"
    return None


def measure(
    code: bytes,
    *,
    data: bytes = b"",
    data_bytes: int | None = None,
    width: int = 64,
    huge_pages: bool = False,
    repetitions: int = 200,
    timeout: float = 30.0,
) -> Measured:
    """Call position-independent ``code`` so many times in one child process, and take the best.

    The code is called at ``CODE_ADDRESS`` by the System V ABI of its width, 64 or 32 bits, with ``DATA_ADDRESS`` as its
    argument (in RDI; on the stack and in EAX), and may change every register but the stack pointer. There it finds
    ``data_bytes`` (as many as ``data`` has, unless given) of memory that can be written, with ``data`` at its start and
    zeros behind it: once, so that a repetition finds what the one before it left. ``huge_pages`` asks for pages of 2 MiB.
    The first repetitions find cold caches, which the best of many does not show. The counter moves in steps (of some 40
    core cycles on Zen 4), so code of less than some thousand core cycles is better measured in a loop, or many times over.

    Raises ``NativeError`` where the host cannot, or where the code crashes or takes more than ``timeout`` seconds of
    host time for all repetitions; ``HostTooNoisy``; ``ValueError``.
    """
    taken = _run(code, data, data_bytes, width, huge_pages, repetitions, timeout)
    fastest = min(min(samples["before"].min(), samples["after"].min()) for samples in taken)
    empty, empty_by_entry, called = (_in_chains(samples, fastest) for samples in taken)
    # What it takes to read the counter twice is in the chain's ticks as well.
    chain = CHAIN_CYCLES / (1 - _quantile(empty, BEST))
    cycles = (called - _quantile(empty_by_entry, BEST)) * chain
    measured = taken[-1]
    best = _quantile(cycles, BEST)
    return Measured(
        cycles=max(best, 0.0),
        spread=(_quantile(cycles, 0.5) - best) / max(best, 1.0),
        repetitions=len(cycles),
        ticks_per_cycle=float(np.median(measured["before"]) / chain),
        results=_results(measured),
    )


def call(
    code: bytes, *, data: bytes = b"", data_bytes: int | None = None, width: int = 64, repetitions: int = 1, timeout: float = 30.0
) -> tuple[int, ...]:
    """What ``code`` leaves in RAX (EAX), repetition by repetition: as ``measure`` has it, on a busy host, too."""
    return _results(_run(code, data, data_bytes, width, False, repetitions, timeout)[-1])


def _results(called: NDArray[Any]) -> tuple[int, ...]:
    return tuple(map(int, called["result"]))


def _in_chains(taken: NDArray[Any], fastest: int) -> NDArray[np.float64]:
    """Ticks of the undisturbed samples, in those of the chains around each; ``fastest`` is that of all chains."""
    before, after = taken["before"].astype(float), taken["after"].astype(float)
    less = np.minimum(before, after)
    undisturbed = (np.abs(before - after) <= AGREEMENT * less) & (less <= (1 + SLOWED) * fastest)
    if np.count_nonzero(undisturbed) < max(1, _FEWEST * len(taken)):
        raise HostTooNoisy(
            f"this host is too busy to measure on: {np.count_nonzero(undisturbed)} of {len(taken)} runs were undisturbed"
        )
    return np.asarray((taken["ticks"] / less)[undisturbed])


def _quantile(values: NDArray[np.float64], share: float) -> float:
    return float(np.sort(values)[int(share * (len(values) - 1))])


def _run(
    code: bytes, data: bytes, data_bytes: int | None, width: int, huge_pages: bool, repetitions: int, timeout: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Samples of nothing, of nothing by way of the width's entry, and of the code."""
    problem = host_problem()
    if problem:
        raise NativeError(problem)
    if data_bytes is None:
        data_bytes = len(data)
    if not 0 < len(code) <= LARGEST_CODE:
        raise ValueError(f"code of {len(code)} bytes: it must be 1 to {LARGEST_CODE}")
    if not len(data) <= data_bytes <= LARGEST_DATA:
        raise ValueError(f"memory of {data_bytes} bytes: it must have room for {len(data)}, and be at most {LARGEST_DATA}")
    if width not in (32, 64) or repetitions < 1:
        raise ValueError(f"{repetitions} repetitions of {width}-bit code")
    count = 2 * EMPTY_SAMPLES + repetitions
    with mmap.mmap(-1, _HEAD.itemsize + count * _SAMPLE.itemsize) as results:
        readable, writable = os.pipe()  # the child has the other end until it ends, however it does
        try:
            try:
                pid = native_child.start(code, data, data_bytes, width, huge_pages, repetitions, results)
            finally:
                os.close(writable)
            status = _wait(pid, readable, timeout)
        finally:
            os.close(readable)
        content = bytes(results)
    head = np.frombuffer(content, _HEAD, 1)[0]
    if head["step"]:
        raise NativeError(f"{_STEPS[int(head['step'])]} could not be set up: {os.strerror(int(head['problem']))}")
    if status is None:
        raise NativeError(f"the code was still running after {timeout:g} s, in repetition {head['done'] + 1} of {repetitions}")
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        raise NativeError(f"the code crashed by {name} in repetition {head['done'] + 1} of {repetitions}")
    if status or head["done"] != repetitions:
        raise NativeError(f"the code left by itself in repetition {head['done'] + 1} of {repetitions}")
    taken = np.frombuffer(content, _SAMPLE, count, _HEAD.itemsize)
    return taken[:EMPTY_SAMPLES], taken[EMPTY_SAMPLES : 2 * EMPTY_SAMPLES], taken[2 * EMPTY_SAMPLES :]


def _wait(pid: int, readable: int, timeout: float) -> int | None:
    """The status of the child, which is ended after ``timeout`` seconds, and then has none."""
    ended: list[int] = []
    try:
        ended, _, _ = select.select([readable], [], [], timeout)
    finally:
        if not ended:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    return status if ended else None
