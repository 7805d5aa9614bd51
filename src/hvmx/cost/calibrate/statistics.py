"""What is said of several series of measurements: a figure and its spread, or that they differ too much.

What disturbs a measurement, an interrupt or a neighbour on the same core, nearly always adds, so the lowest series are the
least disturbed. Now and then it disturbs what a measurement is compared with, and a series is too low: but not several in
the same way. So the figure is the middle one of the lowest three that agree. Series are added until there are such.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, inf

from hvmx.cost.native import HostTooNoisy

AGREEING = 3
"""So many series have to agree."""

MOST_SERIES = 24
"""After so many series without agreement there is no figure."""

TOLERANCE = 0.02
"""They agree where the highest of them is within this share of the lowest."""

FAR_TOLERANCE = 0.05
"""The same for what goes beyond the core, which others use, too."""

RESOLUTION = 0.04
"""Or within so many core cycles: of a body that takes a fraction of one, no whole cycle depends on it."""


NO_TIME = "no time was left for it"


class Unsettled(Exception):
    """The series differ too much to say a figure."""


@dataclass(frozen=True)
class Series:
    """The figure of several series."""

    value: float
    """The middle one of those that agree."""
    spread: float
    """From the lowest to the highest of those, as a share of the figure."""
    count: int
    """All series that were made."""


def settle(once: Callable[[], float], tolerance: float = TOLERANCE, until: float = inf) -> Series:
    """Call ``once``, which makes one series, until enough of them agree. A series that was too noisy counts as made.

    After ``until``, in seconds of time.monotonic(), there are no more of them.
    """
    values: list[float] = []
    made = 0
    while made < MOST_SERIES and time.monotonic() < until:
        made += 1
        try:
            values.append(once())
        except HostTooNoisy:
            continue
        agreed = agreement(values, tolerance)
        if agreed:
            return Series(agreed[len(agreed) // 2], _spread(agreed), made)
    if made < MOST_SERIES:
        raise Unsettled(NO_TIME)
    low = sorted(values)[:AGREEING]
    shown = ", ".join(f"{value:.2f}" for value in low) or "none"
    raise Unsettled(
        f"the lowest of {made} series are {shown} core cycles: they differ by more than {tolerance:.0%}"
    )


def agreement(values: Sequence[float], tolerance: float = TOLERANCE) -> list[float]:
    """The lowest values that agree, in order, if enough do; otherwise none."""
    order = sorted(values)
    for start in range(len(order) - AGREEING + 1):
        few = order[start : start + AGREEING]
        if few[-1] - few[0] <= max(RESOLUTION, tolerance * few[0]):
            return few
    return []


def _spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / max(*values, RESOLUTION)


QUIET, LEAST_QUIET = 0.05, 0.3
"""At least this share of series of one and the same loop must be within that of the lowest."""


def quiet(values: Sequence[float]) -> str | None:
    """What is wrong with a computer where series of one loop took ``values``, with the numbers; None if nothing is."""
    order = sorted(values)
    good = sum(value <= order[0] * (1 + QUIET) for value in order)
    if order[0] < inf and good >= LEAST_QUIET * len(order):
        return None
    return (
        f"of {len(order)} series of one loop {good} were within {QUIET:.0%} of the lowest, and "
        f"{ceil(LEAST_QUIET * len(order))} must be "
        f"(lowest {order[0]:.2f} core cycles, middle {order[len(order) // 2]:.2f}, highest {order[-1]:.2f})"
    )
