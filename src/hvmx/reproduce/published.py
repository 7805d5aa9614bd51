"""A published table beside the model's predictions: which of its figures the profile was made from, and the others' error."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import fmean
from typing import Any

from hvmx.comparison.ways import BY_NAME, Way
from hvmx.cost import Profile, Provenance

MICROSECOND = 1e-6


class Unit(Enum):
    """What a table counts in."""

    CYCLES = "guest cycles"
    MICROSECONDS = "microseconds"

    def of(self, cycles: float, profile: Profile) -> float:
        """Guest cycles in this unit: guest time, by the profile's clock."""
        return cycles if self is Unit.CYCLES else cycles / profile.hz / MICROSECOND


@dataclass(frozen=True)
class Column:
    """A machine that the source has figures of."""

    name: str
    way: str | None = None
    """The way in which hvmx runs the guest for it (``hvmx.comparison.ways``); None where it has none."""
    why_not: str = ""
    """Why it has none."""

    @property
    def as_way(self) -> Way:
        assert self.way is not None
        return BY_NAME[self.way]


@dataclass(frozen=True, eq=False)
class Row:
    """An operation."""

    operation: str
    """As the source calls it."""
    published: Mapping[str, float]
    """By the name of the column."""
    program: str = ""
    """What does the same here: an operation of ``bare/operations.S``, or of ``linux/signs.c`` where a kernel is needed. Empty
    where nothing does."""
    section: str = ""
    isolation: bool | None = None
    """Whether page tables are isolated; None where that makes no difference."""
    kernel: bool = False
    """Whether it needs a kernel of Linux's."""
    certain: bool = True
    """False for figures that nobody here has seen in the source: they are shown, and count for nothing."""
    note: str = ""

    @property
    def name(self) -> str:
        isolation = {None: "", True: " pti=on", False: " pti=off"}[self.isolation]
        return self.operation + isolation


@dataclass(frozen=True)
class Publication:
    """A published table."""

    name: str
    """Of the subcommand."""
    source: str
    """As the titles of profiles' sources begin."""
    about: str
    """What was measured, and on what."""
    unit: Unit
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: Mapping[str, str]
    """What is to be known of its sections, by their names."""

    @property
    def operations(self) -> Sequence[str]:
        return list(dict.fromkeys(row.operation for row in self.rows))

    @property
    def modelled(self) -> Sequence[Column]:
        return [column for column in self.columns if column.way is not None]

    def chosen(self, operations: Iterable[str]) -> Sequence[Row]:
        """The rows of these operations, or all where none is named."""
        wanted = set(operations)
        return [row for row in self.rows if not wanted or row.operation in wanted]

    def made_from(self, row: Row, column: Column, profile: Profile) -> Provenance | None:
        """The figure of the profile that was made from this one, whatever its mark: nothing is predicted then.

        A figure says what it is from: the name of the row, and of the column where there are several.
        """
        key = row.name if len(self.modelled) == 1 else f"{row.name}, {column.name}"
        for figure in profile.written.values():
            if figure.source.startswith(self.source) and re.match(rf"{re.escape(key)}(?![\w-])", figure.where):
                return figure
        return None


@dataclass(frozen=True)
class Cell:
    """A figure of the source, and the model's."""

    row: Row
    column: Column
    published: float
    predicted: float | None
    """In the same unit; None where there is nothing to predict it from."""
    made_from: Provenance | None

    @property
    def error(self) -> float | None:
        """Of a prediction, and of nothing else: +0.2 is a fifth too much."""
        if self.predicted is None or self.made_from is not None or not self.row.certain:
            return None
        return self.predicted / self.published - 1


@dataclass(frozen=True)
class Reproduction:
    """The whole."""

    publication: Publication
    profile: Profile
    cells: Sequence[Cell]

    @property
    def rows(self) -> Sequence[Row]:
        return list(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def sections(self) -> Sequence[str]:
        return list(dict.fromkeys(cell.row.section for cell in self.cells))

    def cell(self, row: Row, column: Column) -> Cell | None:
        return next((cell for cell in self.cells if cell.row is row and cell.column is column), None)

    def errors(self, section: str | None = None) -> Sequence[float]:
        """Of all predictions, or of those in a section."""
        cells = [cell for cell in self.cells if section is None or cell.row.section == section]
        return [cell.error for cell in cells if cell.error is not None]

    def mean_error(self, section: str | None = None) -> float | None:
        """The mean of the errors' sizes; None where nothing was predicted."""
        errors = self.errors(section)
        return fmean(map(abs, errors)) if errors else None

    @property
    def wrong_signs(self) -> Sequence[str]:
        """Where another operation is the dearest than is published, in words."""
        found = []
        for column in self.publication.modelled:
            for section in self.sections:
                cells = [
                    cell for cell in self.cells
                    if cell.column is column and cell.row.section == section and cell.row.certain and cell.predicted is not None
                ]  # fmt: skip
                dearest = max(cells, key=lambda cell: cell.published, default=None)
                predicted = max(cells, key=lambda cell: cell.predicted or 0, default=None)
                if dearest is not None and predicted is not None and predicted is not dearest:
                    found.append(f"{column.name}: {predicted.row.name} is dearer than {dearest.row.name}")
        return found


def reproduction(
    publication: Publication, profile: Profile, rows: Sequence[Row], cycles: Mapping[tuple[str, str], float]
) -> Reproduction:
    """``cycles`` are guest cycles by the names of row and column."""
    cells = []
    for row in rows:
        for column in publication.columns:
            if column.name not in row.published:
                continue
            found = cycles.get((row.name, column.name))
            predicted = None if found is None else publication.unit.of(found, profile)
            made_from = None if predicted is None else publication.made_from(row, column, profile)
            cells.append(Cell(row, column, row.published[column.name], predicted, made_from))
    return Reproduction(publication, profile, cells)


def published_json(found: Reproduction) -> dict[str, Any]:
    """As data."""
    return {
        "publication": found.publication.name,
        "source": found.publication.source,
        "about": found.publication.about,
        "profile": found.profile.name,
        "unit": found.publication.unit.value,
        "mean_error": found.mean_error(),
        "mean_errors": {section: found.mean_error(section) for section in found.sections},
        "wrong_signs": list(found.wrong_signs),
        "figures": [
            {
                "operation": cell.row.name,
                "section": cell.row.section,
                "column": cell.column.name,
                "published": cell.published,
                "certain": cell.row.certain,
                "predicted": cell.predicted,
                "made_from": cell.made_from and {"mark": cell.made_from.mark.value, "where": cell.made_from.where},
                "error": cell.error,
                "note": cell.row.note,
            }
            for cell in found.cells
        ],
        "notes": dict(found.publication.notes),
    }
