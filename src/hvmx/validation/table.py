"""The table of a validation."""

from __future__ import annotations

from rich.table import Table

from hvmx.report.caches import NOT_MODELLED
from hvmx.report.plain_table import plain_table

from .results import Row, Validation

MARKS = {"d": "branches follow from data", "~": "noisy", "f": "fitted, left out of means", "!": "checksums differ"}


def validation_table(found: Validation, rows: list[Row]) -> Table:
    """A row for each program: predicted guest cycles beside measured core cycles, each also for an instruction."""
    table = plain_table(
        f"{found.profile.name} ({found.profile.processor})\nbeside {found.processor}", summary(found)
    )
    table.add_column("\nProgram", no_wrap=True)
    for name in ("Instruc-\ntions", "Predicted\nguest cycles", "\nCPI", "Measured\ncore cycles", "\nCPI", "\nError"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        marks = marks_of(row)
        style = "red" if not row.agrees else "dim" if row.noisy or row.fitted else ""
        table.add_row(
            row.program.name,
            f"{row.predicted.instructions:,.0f}",
            f"{row.predicted.guest_cycles:,.0f}",
            f"{row.predicted.guest_cycles / row.predicted.instructions:.2f}",
            f"{row.native.core_cycles:,.0f}",
            f"{row.native.core_cycles / row.predicted.instructions:.2f}",
            f"{row.error:+,.0%}",
            marks,
            style=style,
        )
    return table


def marks_of(row: Row) -> str:
    holds = {"d": not row.program.predictable, "~": row.noisy, "f": row.fitted, "!": not row.agrees}
    return "".join(mark for mark, true in holds.items() if true)


def summary(found: Validation) -> str:
    """Mean and worst errors, what the marks say, and what the comparison is worth."""
    lines = []
    for title, group in (("all", None), ("predictable branches", True), ("branches by data", False)):
        mean, worst = found.mean_absolute_error(group), found.worst(group)
        if mean is not None and worst is not None:
            count = len(found.errors(group))
            lines.append(
                f"Mean absolute error, {title} ({count}): {mean:.1%}; worst {worst.program.name}, {worst.error:+,.0%}"
            )
    if not found.profile.caches.modelled:
        lines.append(f"{NOT_MODELLED.capitalize()}.")
    lines.append("CPI: cycles an instruction, where a repeated string instruction is one.")
    used = sorted({mark for row in found.rows for mark in marks_of(row)}, key=list(MARKS).index)
    if used:
        lines.append("; ".join(f"{mark} {MARKS[mark]}" for mark in used))
    if found.own is False:
        lines.append(f"{found.profile.name} is another processor's profile: the error is also the difference of the two.")
    elif found.own is None:
        lines.append(f"Whether {found.profile.name} is this processor's profile is not known.")
    return "\n".join(lines)
