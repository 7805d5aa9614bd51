"""What was predicted and what was measured, program by program, and how far they are apart."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hvmx.cost import Profile
from hvmx.cost.native import NOISY, Measured, measure
from hvmx.cost.native_processor import processor_name, profile_of_processor

from .modelled import CALLS, Predicted, predict
from .suite import DATA_BYTES, FITTED, Program

REPETITIONS = 200
"""Calls of a program in one child process."""

ROUNDS = 3
"""Times that the whole suite is measured, the middle one of which counts for each program: what disturbs it in one has
gone in another, and what makes it look fast, such as a chain that was held up, has too."""

MOST_NOISY = 0.25
"""The share of the programs with predictable branches that may be noisy: with more nothing can be said."""


class StaleMeasurement(ValueError):
    """Figures from a file are not those of the programs that are here."""


@dataclass(frozen=True)
class Native:
    """What a program takes on a processor, this host's or one that was measured before."""

    core_cycles: float
    """Of one call."""
    spread: float
    repetitions: int
    results: tuple[int, ...]
    """Checksums of the first calls."""
    image: str
    """The image's digest."""

    @classmethod
    def of(cls, program: Program, measured: Measured) -> Native:
        # Where each call has other data, the best tenth is the easiest data: there the median stands for all.
        cycles = measured.cycles if program.predictable else measured.cycles * (1 + measured.spread)
        return cls(cycles, measured.spread, measured.repetitions, measured.results[:CALLS], digest(program))

    @classmethod
    def from_json(cls, program: Program, entry: Mapping[str, Any]) -> Native:
        native = cls(
            core_cycles=float(entry["core_cycles"]),
            spread=float(entry["spread"]),
            repetitions=int(entry["repetitions"]),
            results=tuple(int(result, 16) for result in entry["results"]),
            image=str(entry["image"]),
        )
        if native.image != digest(program):
            raise StaleMeasurement(f"{program.name} was compiled otherwise when it was measured")
        return native


def digest(program: Program) -> str:
    return hashlib.sha256(program.image()).hexdigest()[:16]


@dataclass(frozen=True)
class Row:
    """One program."""

    program: Program
    predicted: Predicted
    native: Native

    @property
    def error(self) -> float:
        """How much more the model says, as a share of what was measured."""
        return self.predicted.guest_cycles / self.native.core_cycles - 1

    @property
    def agrees(self) -> bool:
        """Whether the model computed what the processor did, call by call."""
        calls = min(len(self.native.results), len(self.predicted.results))
        return calls > 0 and self.native.results[:calls] == self.predicted.results[:calls]

    @property
    def noisy(self) -> bool:
        """Whether calls that do the same took different times."""
        return self.program.predictable and self.native.spread > NOISY

    @property
    def fitted(self) -> bool:
        return self.program.name in FITTED

    @property
    def counts(self) -> bool:
        return self.agrees and not self.fitted


@dataclass(frozen=True)
class Validation:
    """A suite, or a part of it, against one profile."""

    profile: Profile
    processor: str
    """On which the programs were measured."""
    meant: str | None
    """The name of the profile that is meant for it; None where nobody knows of one."""
    rows: Sequence[Row]

    @property
    def own(self) -> bool | None:
        """Whether the profile is that processor's; None where that is not known."""
        if self.profile.name == self.meant or self.processor in self.profile.processor:  # as a calibrated one says
            return True
        return None if self.meant is None else False

    def errors(self, predictable: bool | None = None) -> list[float]:
        """Of the programs that count: all, those with predictable branches, or the others."""
        return [row.error for row in self.rows if row.counts and predictable in (None, row.program.predictable)]

    def mean_absolute_error(self, predictable: bool | None = None) -> float | None:
        errors = self.errors(predictable)
        return fmean(map(abs, errors)) if errors else None

    def worst(self, predictable: bool | None = None) -> Row | None:
        counting = (row for row in self.rows if row.counts and predictable in (None, row.program.predictable))
        return max(counting, key=lambda row: abs(row.error), default=None)

    @property
    def too_noisy(self) -> bool:
        predictable = [row for row in self.rows if row.program.predictable]
        return sum(row.noisy for row in predictable) > MOST_NOISY * len(predictable)

    @property
    def wrong(self) -> list[Row]:
        """Where the model computed something else."""
        return [row for row in self.rows if not row.agrees]


def measure_all(
    programs: Sequence[Program],
    *,
    repetitions: int = REPETITIONS,
    rounds: int = ROUNDS,
    done: Callable[[], object] = lambda: None,
) -> dict[str, Native]:
    """Run each program on this host's processor, the whole suite so many times; ``done`` is called after each run."""
    taken: dict[str, list[Measured]] = {program.name: [] for program in programs}
    for _ in range(rounds):
        for program in programs:
            image = program.image()
            taken[program.name].append(
                measure(image, data_bytes=DATA_BYTES, width=program.bits, repetitions=repetitions)
            )
            done()
    return {program.name: Native.of(program, _middle(taken[program.name])) for program in programs}


def _middle(taken: list[Measured]) -> Measured:
    return sorted(taken, key=lambda measured: measured.cycles)[(len(taken) - 1) // 2]


def predict_all(
    programs: Iterable[Program], profile: Profile, *, done: Callable[[], object] = lambda: None
) -> dict[str, Predicted]:
    """Run each program in the model; ``done`` is called after each."""
    predictions = {}
    for program in programs:
        predictions[program.name] = predict(program, profile)
        done()
    return predictions


def validation(
    profile: Profile,
    predicted: Mapping[str, Predicted],
    native: Mapping[str, Native],
    programs: Iterable[Program],
    processor: str | None = None,
    meant: str | None = None,
) -> Validation:
    """Both put side by side; ``processor`` and the profile ``meant`` for it are this host's unless given."""
    if processor is None:
        processor, meant = processor_name(), profile_of_processor()
    rows = [Row(program, predicted[program.name], native[program.name]) for program in programs]
    return Validation(profile, processor, meant, rows)


def validation_json(found: Validation) -> dict[str, Any]:
    """The same as data; ``native_from_json`` reads the measured half again."""
    groups = {"all": None, "predictable": True, "by_data": False}
    return {
        "profile": found.profile.name,
        "caches_modelled": found.profile.caches.modelled,
        "processor": found.processor,
        "profile_of_processor": found.meant,
        "profile_is_of_processor": found.own,
        "too_noisy": found.too_noisy,
        "mean_absolute_error": {name: found.mean_absolute_error(group) for name, group in groups.items()},
        "worst": {name: row and row.program.name for name, row in ((n, found.worst(g)) for n, g in groups.items())},
        "programs": {row.program.name: _row_json(row) for row in found.rows},
    }


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "bits": row.program.bits,
        "predictable": row.program.predictable,
        "fitted": row.fitted,
        "instructions": row.predicted.instructions,
        "guest_cycles": row.predicted.guest_cycles,
        "core_cycles": row.native.core_cycles,
        "error": row.error,
        "spread": row.native.spread,
        "repetitions": row.native.repetitions,
        "noisy": row.noisy,
        "checksums_agree": row.agrees,
        "results": [f"{result:#x}" for result in row.native.results],
        "image": row.native.image,
    }


def native_from_json(content: Mapping[str, Any], programs: Iterable[Program]) -> dict[str, Native]:
    """What an earlier ``validation_json`` says of these programs on the processor that it was made on.

    Raises ``StaleMeasurement`` for a program that is not in it, or that has changed since.
    """
    measured = content["programs"]
    missing = [program.name for program in programs if program.name not in measured]
    if missing:
        raise StaleMeasurement(f"{', '.join(missing)} had not been measured")
    return {program.name: Native.from_json(program, measured[program.name]) for program in programs}
