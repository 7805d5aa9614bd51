"""What a comparison gives: an outcome for each run, with all that reports are made of.

Guest cycles follow from the guest and the profile, and are the same on every machine; what the host took stands apart, under
``host``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hvmx.exits import ExitReason, Statistic

from .compatibility import Use
from .interface import Interface
from .ledger import Item
from .over_time import OverTime
from .resources import Host, Resources

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOTALS = ("guest_cycles", "instructions", "exits", "hypercalls", "mispredictions", "tlb_misses", "walk_references")
"""Counts of the whole run, from the first instruction on, that are compared besides the operations."""


@dataclass(frozen=True)
class Operation:
    """An operation that the guest timed."""

    name: str
    count: int
    """How many were timed."""
    guest_cycles: int
    """Of all of them together, as the guest's time-stamp counter says."""
    ledger: tuple[Item, ...] = ()
    """Where these went; empty unless it was asked for."""

    @property
    def cycles_each(self) -> float:
        return self.guest_cycles / self.count

    def as_json(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "guest_cycles": self.guest_cycles,
            "guest_cycles_each": round(self.cycles_each, 3),
            "ledger": [item.as_json() for item in self.ledger],
        }


@dataclass(frozen=True)
class Outcome:
    """What one run of a guest came to."""

    guest: str
    """The image's file name; of the bundled guest ``bundled``."""
    profile: str
    way: str
    """One of ``hvmx.comparison.ways.WAYS``, by its name."""
    end: str
    """How the run ended, in words."""
    totals: Mapping[str, int]
    """By the names of ``TOTALS``."""
    ledger: tuple[Item, ...]
    """Where the guest cycles of the whole run went."""
    operations: Mapping[str, Operation]
    """By name: those that the guest timed, without those that its way does not allow or has no figure for."""
    exits: Mapping[ExitReason, Statistic]
    exits_over_time: OverTime
    hypercalls: Mapping[str, Statistic]
    """By name, with those of each sub-operation below."""
    uses: tuple[Use, ...]
    """What of a processor's and a board's an unmodified guest used, and whether PV offers it."""
    interface: Interface
    resources: Resources
    caches: Mapping[str, int] | None
    """Where accesses to data found their lines, as ``Vcpu.cache_hits`` has it."""
    host: Host = field(compare=False)
    timeline: tuple[NDArray[np.void], int] | None = field(default=None, compare=False)
    """What ``Vcpu.timeline`` says happened when, where that was asked for."""

    @property
    def guest_cycles(self) -> int:
        return self.totals["guest_cycles"]

    def as_json(self) -> dict[str, Any]:
        return {
            "guest": self.guest,
            "profile": self.profile,
            "way": self.way,
            "end": self.end,
            "totals": dict(self.totals),
            "ledger": [item.as_json() for item in self.ledger],
            "operations": {name: operation.as_json() for name, operation in self.operations.items()},
            "exits": {reason.name: row.as_json() for reason, row in self.exits.items()},
            "exits_over_time": self.exits_over_time.as_json(),
            "hypercalls": {name: row.as_json() for name, row in self.hypercalls.items()},
            "uses": [use.as_json() for use in self.uses],
            "interface": self.interface.as_json(),
            "resources": self.resources.as_json(),
            "caches": None if self.caches is None else dict(self.caches),
            "host": self.host.as_json(),
        }


@dataclass(frozen=True)
class NoOutcome:
    """A run that came to nothing, and why."""

    guest: str
    profile: str
    way: str
    why: str


class Refusal(NoOutcome):
    """The guest cannot run this way."""


class Failure(NoOutcome):
    """The guest or who ran it did not come to the end; the same run may do so elsewhere, or with more time."""


@dataclass(frozen=True)
class Comparison:
    """The outcomes of several runs, in the order in which they were asked for; iterating goes over them."""

    outcomes: tuple[Outcome, ...]
    refusals: tuple[Refusal, ...] = ()
    """Of the others, those that there cannot be."""
    failures: tuple[Failure, ...] = ()
    """Those that there could have been."""

    def of(self, guest: str | None = None, profile: str | None = None) -> dict[str, Outcome]:
        """The outcomes by way: of the only guest and profile, or of those named. ValueError where that is not one each."""
        found = [
            outcome for outcome in self.outcomes if guest in (None, outcome.guest) and profile in (None, outcome.profile)
        ]
        if len({(outcome.guest, outcome.profile) for outcome in found}) > 1:
            raise ValueError("there are several guests or profiles: name one of each")
        return {outcome.way: outcome for outcome in found}

    def pairs(self) -> list[tuple[str, str]]:
        """Guest and profile of the tables that this is: each of them once."""
        runs: list[Outcome | NoOutcome] = [*self.outcomes, *self.refusals, *self.failures]
        return list(dict.fromkeys((run.guest, run.profile) for run in runs))

    def operations(self) -> NDArray[np.void]:
        """A structured array with a row for each operation of each run: ``guest``, ``profile``, ``way``, ``operation``,
        ``count`` and ``guest_cycles`` of all of them together."""
        rows = [
            (run.guest, run.profile, run.way, operation.name, operation.count, operation.guest_cycles)
            for run in self.outcomes
            for operation in run.operations.values()
        ]
        return _array(rows, ["guest", "profile", "way", "operation"], ["count", "guest_cycles"])

    def totals(self) -> NDArray[np.void]:
        """A structured array with a row for each run: ``guest``, ``profile``, ``way``, and its counts by ``TOTALS``."""
        rows = [
            (run.guest, run.profile, run.way, *(run.totals[name] for name in TOTALS)) for run in self.outcomes
        ]
        return _array(rows, ["guest", "profile", "way"], list(TOTALS))

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self.outcomes)


def _array(rows: list[tuple[Any, ...]], words: list[str], numbers: list[str]) -> NDArray[np.void]:
    import numpy as np

    widths = [max((len(row[place]) for row in rows), default=1) for place in range(len(words))]
    kinds = [(name, f"U{width}") for name, width in zip(words, widths, strict=True)]
    return np.array(rows, dtype=[*kinds, *((name, np.uint64) for name in numbers)])
