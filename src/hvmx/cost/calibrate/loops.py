"""Loops that are timed on this processor: machine code around what is measured, and what a copy of it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf

from hvmx.cost.native import HostTooNoisy, Measured, measure

from .assembler import assemble
from .statistics import MOST_SERIES, NO_TIME, TOLERANCE, Series, Unsettled, settle

SCRATCH = 64 << 10
"""Bytes of memory that a loop may use, from RSI on, unless it asks for more; RDI is in their middle, as is R12."""

_STACK = 4096
"""Room above the stack pointer that a body may use besides what is below."""

_LINE = 64
"""Loops start where a line of the instruction cache does, so that all are fetched alike."""

_GOAL = 40_000
"""Core cycles that a loop runs at least: starting it and timing it are lost in them."""

_TRIALS, _TRIAL_ROUNDS = 3, 16
_INSTRUCTION = 2
"""Core cycles that a copy is taken to last where there is no trial."""
_MOST_ROUNDS = 1 << 20

_SERIES = 20_000_000
"""Core cycles of a series at most, unless its fewest runs take more."""

_FEWEST = 10
"""Runs in a series at least."""

REPETITIONS = 60
"""Runs of the loop in a series."""


@dataclass(frozen=True)
class Loop:
    """What is measured. R12 to R15, and the stack pointer where it ends, are not its own."""

    body: str
    """What is measured, ``copies`` times in a round."""
    setup: str = ""
    """What is run once, before."""
    after: str = ""
    """What is run once, after."""
    copies: int = 1
    data: bytes = b""
    """What is in memory at RSI, once before all runs."""
    data_bytes: int = SCRATCH
    huge_pages: bool = False
    least_rounds: int = 1

    def round(self) -> bytes:
        """The copies, without what counts rounds."""
        return assemble(self.body) * self.copies

    def code(self, rounds: int) -> bytes:
        """A function of (memory) by the System V ABI, but that it saves no register."""
        round_ = self.round() + assemble("dec r13")
        start = f"mov rsi, rdi; lea rdi, [rsi+{SCRATCH // 2}]; mov r12, rdi; sub rsp, {_STACK}; {self.setup}"
        before = assemble(f"{start}; mov r13d, {rounds}")
        return (
            before
            + assemble("nop") * (-len(before) % _LINE)
            + round_
            + _back(len(round_))
            + assemble(f"{self.after}; add rsp, {_STACK}; fninit; cld; ret")
        )


def _back(distance: int) -> bytes:
    """JNE over the ``distance`` bytes before it, and over itself."""
    short, near = 2, 6
    length = short if distance + short <= 128 else near
    return assemble(f"jne -{distance + length}")


class Stopwatch:
    """Times loops, each in several series."""

    def __init__(
        self, repetitions: int = REPETITIONS, run: Callable[..., Measured] = measure, until: float = inf
    ) -> None:
        self.repetitions = repetitions
        self._until = until
        self._run = run

    def time(self, loop: Loop, tolerance: float = TOLERANCE) -> Series:
        """Core cycles of one copy of the body. ``NativeError`` where it cannot run, ``Unsettled`` where that differs.

        What is around the loop is in the time of a single round, too, and so is taken off.
        """
        single = self._least(loop, 1)
        trial = (self._least(loop, _TRIAL_ROUNDS) - single) / (_TRIAL_ROUNDS - 1)
        rounds = 1 + max(loop.least_rounds, min(round(_GOAL / max(trial, 0.5)), _MOST_ROUNDS))
        repetitions = max(_FEWEST, min(self.repetitions, int(_SERIES / (max(trial, 0.5) * rounds))))
        return settle(
            lambda: (self._cycles(loop, rounds, repetitions) - single) / (rounds - 1) / loop.copies,
            tolerance,
            self._until,
        )

    def _least(self, loop: Loop, rounds: int) -> float:
        """The lowest of a few short series."""
        values: list[float] = []
        for _ in range(MOST_SERIES):
            if time.monotonic() >= self._until:
                raise Unsettled(NO_TIME)
            with suppress(HostTooNoisy):
                values.append(self._cycles(loop, rounds, _FEWEST))
            if len(values) == _TRIALS:
                return min(values)
        raise Unsettled(f"of {MOST_SERIES} short series {len(values)} were undisturbed")

    def once(self, loop: Loop) -> float:
        """Core cycles of one copy of the body, by a single series. ``HostTooNoisy``."""
        rounds = _GOAL // (loop.copies * _INSTRUCTION)
        return self._cycles(loop, rounds, self.repetitions) / rounds / loop.copies

    def _cycles(self, loop: Loop, rounds: int, repetitions: int) -> float:
        return self._run(
            loop.code(rounds),
            data=loop.data,
            data_bytes=loop.data_bytes,
            huge_pages=loop.huge_pages,
            repetitions=repetitions,
        ).cycles
