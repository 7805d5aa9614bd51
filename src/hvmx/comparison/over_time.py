"""When in a run its exits and hypercalls came: how many in each slice of its guest cycles."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from hvmx.stops import Stop, StopKind

if TYPE_CHECKING:
    from hvmx.machine import Machine

HYPERCALLS = "hypercalls"
"""Under this name stand those of the PV guest, beside the reasons of exits."""

MOST_SLICES = 96
"""With more than these, two become one: at the end there are half of them at least, however long the run was."""

FIRST_WIDTH = 1000
"""Guest cycles of a slice at the start."""

_SHORTEST = 1e-6
"""Seconds: no time at all is no limit that there can be."""


@dataclass(frozen=True)
class OverTime:
    """Counts by the slices of a run. What came at the border of two slices counts where its instruction began."""

    slice_cycles: int
    """Guest cycles of a slice; the last one is as long as the run."""
    counts: Mapping[str, tuple[int, ...]]
    """By the name of the reason, the most frequent first: a number for each slice."""

    def as_json(self) -> dict[str, Any]:
        return {"slice_cycles": self.slice_cycles, "counts": {name: list(row) for name, row in self.counts.items()}}


def run_in_slices(machine: Machine, cycles: int | None, timeout: float | None) -> tuple[Stop, OverTime]:
    """As ``Machine.run``, and how the exits and hypercalls are spread."""
    until = None if timeout is None else time.monotonic() + timeout
    width, edges = FIRST_WIDTH, [_counts(machine)]
    while True:
        edge = len(edges) * width
        if machine.cycles < edge:
            limit = edge if cycles is None else min(edge, cycles)
            left = None if until is None else max(until - time.monotonic(), _SHORTEST)
            stop = machine.run(max(limit - machine.cycles, 0), left)
            if stop.kind is not StopKind.CYCLES or limit == cycles:
                break
        # An instruction may take longer than a slice.
        edges.append(_counts(machine))
        if len(edges) > MOST_SLICES:
            edges, width = edges[::2], 2 * width
    edges.append(_counts(machine))
    return stop, OverTime(width, _spread(edges))


def _counts(machine: Machine) -> dict[str, int]:
    """So far, by name."""
    counts = {reason.name: count for reason, count in machine.exits.counts().items()}
    return {**counts, HYPERCALLS: machine.cpu.counters()["hypercalls"]}


def _spread(edges: list[dict[str, int]]) -> dict[str, tuple[int, ...]]:
    """What came between each edge and the next, of that of which there was any."""
    last = edges[-1]
    return {
        name: tuple(after.get(name, 0) - before.get(name, 0) for before, after in pairwise(edges))
        for name in sorted(last, key=lambda name: (-last[name], name))
        if last[name]
    }
