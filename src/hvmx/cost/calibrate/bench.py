"""What all measurements share: timed loops, each only once, and what was found and what was not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import floor, inf
from typing import Any

from hvmx.cost.native import NativeError

from .host import Host
from .instructions import DATA, INTEGERS
from .loops import Loop, Stopwatch
from .statistics import Series, Unsettled

_INSTRUCTIONS_IN_A_ROUND = 96


Progress = Callable[[int, int, str], None]
"""Parts that are done, all parts, and what comes next."""


@dataclass(frozen=True)
class Finding:
    """A figure of the profile that was measured."""

    key: str
    """Its table and name."""
    values: Mapping[str, Any]
    """What of its entry was measured."""
    where: str
    """What the measurements were."""


@dataclass(frozen=True)
class Step:
    """A part of a calibration that succeeds or fails by itself."""

    key: str
    """The figure that it is about, or the first of them."""
    measure: Callable[[Bench], None]
    """Notes what it finds, and may raise ``Unsettled`` or ``NativeError``."""


@dataclass
class Bench:
    """The state of a calibration."""

    host: Host
    base: Mapping[str, Any]
    """The content of the file that the new profile is based on."""
    watch: Stopwatch
    findings: dict[str, Finding] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """Why a figure stays the base's, by its key."""
    beside: dict[str, str] = field(default_factory=dict)
    """What was measured of this host that no figure of a profile means."""
    width: int = 0
    """Slots of dispatch a cycle, once measured."""
    filler: Sequence[str] = ()
    """Instructions that take a slot of dispatch each and no pipe, at ``width`` a cycle, if there are such."""
    _times: dict[Loop, Series] = field(default_factory=dict)

    def time(self, text: str, setup: str = INTEGERS, copies: int | None = None) -> Series:
        """Core cycles of the instructions, once."""
        count = text.count(";") + 1
        copies = copies or max(1, _INSTRUCTIONS_IN_A_ROUND // count)
        loop = Loop(text, setup, copies=copies, data=DATA)
        if loop not in self._times:
            self._times[loop] = self.watch.time(loop)
        return self._times[loop]

    def again(self, progress: Progress, until: float = inf) -> None:
        """Time all loops a second time, and keep the lower figure of each: who shared the core then may be gone now.

        After ``until``, in seconds of time.monotonic(), the rest keep theirs.
        """
        for number, (loop, before) in enumerate(list(self._times.items())):
            if time.monotonic() >= until:
                break
            progress(number, len(self._times), loop.body.partition(";")[0])
            with suppress(Unsettled, NativeError):
                after = self.watch.time(loop)
                lower = min(before, after, key=lambda series: series.value)
                self._times[loop] = replace(lower, count=before.count + after.count)
        self.findings.clear()
        self.missing.clear()

    def entry(self, key: str) -> Mapping[str, Any]:
        """The base's entry."""
        table, _, name = key.partition(".")
        content = self.base.get(table, {}).get(name, {})
        return content if isinstance(content, Mapping) else {}

    def has(self, key: str) -> bool:
        """Whether the base has such a figure."""
        return bool(self.entry(key))

    def find(self, key: str, values: Mapping[str, Any], where: str) -> None:
        """Note a figure, if profiles have it."""
        if self.has(key):
            self.findings[key] = Finding(key, values, where)

    def miss(self, key: str, why: str) -> None:
        """Note that a figure stays the base's."""
        if self.has(key):
            self.missing[key] = why


_NEARLY = 0.01
"""So near to a half is a half: half of a chain of 3.00 may come out as 1.499."""


def whole(cycles: float) -> int:
    """The nearest whole number; a half goes up."""
    return floor(cycles + 0.5 + _NEARLY)


def said(series: Series, unit: str = "") -> str:
    """A figure as it was measured, with its spread."""
    return f"{series.value:.2f}{unit} ({series.spread:.1%} of {series.count})"
