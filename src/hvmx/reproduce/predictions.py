"""What the model has for the rows of a published table: guest cycles by the names of row and column."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hvmx.comparison.runs import knows_ports
from hvmx.cost import Profile

from . import signs, single
from .published import Column, Publication, Row

Cycles = Mapping[tuple[str, str], float]


def of_operations(publication: Publication, rows: Sequence[Row], profile: Profile) -> Cycles:
    """Of the rows that need no kernel, where the source has a figure and the profile one of a port, if it takes one."""
    return {
        (row.name, column.name): single.cycles(row.program, profile, column.as_way)
        for row in rows
        for column in publication.modelled
        if row.program and not row.kernel and column.name in row.published
        and not (column.as_way.native and row.program in single.PORTS and not knows_ports(profile))
    }  # fmt: skip


@dataclass(frozen=True)
class Boot:
    """A boot of Linux, for the rows of one column with or without isolation."""

    way: signs.Way
    column: Column
    rows: Sequence[Row]

    def cycles(self, kernel: Path, profile: Profile, memory: int, timeout: float, done: Callable[[], object]) -> Cycles:
        """Boot it; arguments and errors as of ``signs.boot``."""
        operations = [row.program for row in self.rows]
        found = signs.boot(self.way, kernel, profile, memory, operations, timeout=timeout, done=done)
        return {(row.name, self.column.name): found.cycles[row.program] for row in self.rows}


def boots(publication: Publication, rows: Sequence[Row]) -> Sequence[Boot]:
    """Those that the rows need."""
    planned = []
    for way in signs.WAYS:
        for column in publication.modelled:
            needing = [
                row for row in rows if row.kernel and row.isolation == way.isolation and column.name in row.published
            ]
            if column.way == way.name and needing:
                planned.append(Boot(way, column, needing))
    return planned
