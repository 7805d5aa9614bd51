"""The kinds of figure that a cost profile holds, each with where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

FRACTION = 120
"""The core counts in this fraction of a guest cycle (CYCLE_FRACTION of core/state/state.h)."""


class Mark(Enum):
    """Where a figure comes from."""

    MEASURED = "measured"
    """It was measured on the processor that the source names."""
    PUBLISHED = "published"
    """It is in the source, or is the difference of two figures that are."""
    FITTED = "fitted"
    """It was chosen so that the model gives the source's figure for a whole operation."""
    ASSUMED = "assumed"
    """It was not checked against a processor."""


def marks_in_words(marks: Mapping[Mark, int]) -> str:
    """In words: ``10 published, 4 fitted, 95 assumed``, or ``all assumed``."""
    some = {mark.value: count for mark, count in marks.items() if count}
    if len(some) == 1:
        return f"all {next(iter(some))}"
    return ", ".join(f"{count} {mark}" for mark, count in some.items())


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a figure comes from."""

    mark: Mark
    source: str
    """The title of the source."""
    where: str
    """Where it is in the source, or how it follows from what is there."""


@dataclass(frozen=True, kw_only=True)
class Figure(Provenance):
    """A time, in guest cycles."""

    cycles: float

    @property
    def units(self) -> int:
        """The time as the core counts it, in units of 1/``FRACTION`` guest cycle."""
        return round(self.cycles * FRACTION)


@dataclass(frozen=True, kw_only=True)
class Count(Provenance):
    """A size or a rate: so many entries, or so many a cycle."""

    value: int


@dataclass(frozen=True, kw_only=True)
class Validation(Provenance):
    """How near the processor the model comes: what ``hvmx validate`` has found."""

    percent: int
    """Mean absolute error of predicted beside measured core cycles."""
    programs: int
    """Of so many programs."""


@dataclass(frozen=True, kw_only=True)
class Counts(Provenance):
    """Several sizes of like things, such as the history lengths of a predictor's tables."""

    values: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Families(Provenance):
    """Families of the instruction table that the processor treats in one way, such as fusing them with a branch."""

    families: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Kinds(Provenance):
    """Kinds of register that the processor treats in one way: ``general``, ``vector``."""

    kinds: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Timing(Provenance):
    """What an instruction of a cost class takes of the pipeline."""

    latency: int
    """Guest cycles from its operands to its result."""
    slots: int
    """Slots of dispatch: micro-operations in the fused domain."""
    uses: tuple[tuple[str, int], ...]
    """The pipes it occupies: each the name of a pipe, or of a group of which it takes one, and for how many guest cycles."""
    serial: bool
    """Whether all before it completes first, and nothing after it begins until it has."""

    @property
    def cycles(self) -> int:
        """What it costs where nothing overlaps."""
        return self.latency

    @property
    def units(self) -> int:
        """The same in units of 1/``FRACTION`` guest cycle."""
        return self.latency * FRACTION


@dataclass(frozen=True, kw_only=True)
class Buffer(Provenance):
    """A translation look-aside buffer for one page size."""

    entries: int
    """0 for none."""
    ways: int
    """As many as entries for one that is fully associative."""
    shared: bool
    """Whether the entries are those of the same level's buffer for 4 KB pages."""


@dataclass(frozen=True, kw_only=True)
class Cache(Provenance):
    """A level of cache."""

    size: int
    """KB."""
    ways: int
    cycles: int
    """Guest cycles from the load to its data, when it hits."""
