"""The table of a publication and its reproduction, and what is to be known of it."""

from __future__ import annotations

import textwrap

from rich.table import Table

from hvmx.report.plain_table import plain_table

from .published import Cell, Column, Reproduction, Row, Unit


def published_table(found: Reproduction) -> Table:
    """A row for each operation; for each column of the source what is published, what hvmx has, and the error."""
    publication = found.publication
    table = plain_table(f"{publication.name}: {publication.unit.value}, profile {found.profile.name}")
    table.add_column("\n\nOperation", no_wrap=True)
    for column in publication.columns:
        first, _, second = column.name.partition(" ")
        table.add_column(f"{first}\n{second}\npublished", justify="right", no_wrap=True)
        if column.way is not None:
            table.add_column("\n\nhvmx", justify="right", no_wrap=True)
            table.add_column("\n\nerror", justify="right", no_wrap=True)
    section = ""
    for row in found.rows:
        if row.section != section:
            section = row.section
            table.add_row(f"{section}:", style="dim")
        cells = (text for column in publication.columns for text in _cells(found, row, column))
        table.add_row(row.name, *cells)
    return table


def _cells(found: Reproduction, row: Row, column: Column) -> tuple[str, ...]:
    cell, unit = found.cell(row, column), found.publication.unit
    published = "" if cell is None else ("" if row.certain else "~") + _figure(cell.published, unit)
    if column.way is None:
        return (published,)
    if cell is None or cell.predicted is None:
        return (published, "", "")
    return (published, _figure(cell.predicted, unit), _error(cell))


def _figure(value: float, unit: Unit) -> str:
    if unit is Unit.CYCLES:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _error(cell: Cell) -> str:
    if cell.made_from is not None:
        return "fitted"
    return "" if cell.error is None else f"{cell.error:+.0%}"


def summary(found: Reproduction, width: int = 80) -> str:
    """How near the predictions are, which figures are none, and what is to be known of both. Wider than the table may be."""
    publication = found.publication
    said = [
        f"{publication.source}: {publication.about}. Profile: {found.profile.processor}.",
        _fitted(found),
        _errors(found),
        *(f"{column.name}: as published; {column.why_not}." for column in publication.columns if column.why_not),
        *(f"{row.name}: {row.note}." for row in found.rows if row.note),
        *(note for section, note in publication.notes.items() if section in found.sections),
        *(f"WRONG: {sign}." for sign in found.wrong_signs),
    ]
    return "\n".join(textwrap.fill(line, width, break_on_hyphens=False) for line in said)


def _fitted(found: Reproduction) -> str:
    fitted = sum(cell.made_from is not None for cell in found.cells)
    if not fitted:
        return "No figure of the profile was made from these."
    return f"fitted: the profile was made from this figure ({fitted} of {len(found.cells)}), so that nothing is predicted."


def _errors(found: Reproduction) -> str:
    parts = [
        f"{section} {mean:.0%} ({len(found.errors(section))})"
        for section in found.sections
        if section and (mean := found.mean_error(section)) is not None
    ]
    mean = found.mean_error()
    if mean is None:
        return "Nothing is predicted."
    return "; ".join([f"Mean error of what is predicted: {mean:.0%} ({len(found.errors())})", *parts]) + "."
