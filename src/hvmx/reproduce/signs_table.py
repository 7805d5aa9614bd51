"""The table of ``signs``."""

from __future__ import annotations

from rich.table import Table

from hvmx.report.plain_table import plain_table

from .signs import SOURCE, Comparison, Row, Signs

_HEADINGS = {True: "with pti=on:", False: "with pti=off:"}


def signs_table(found: Signs) -> Table:
    """A row for each operation: guest cycles in each way, ratios to nested paging, and those that are published."""
    table = plain_table(
        f"Guest cycles of Linux's services, {found.profile.name} ({found.profile.processor})", summary(found)
    )
    table.add_column("\nOperation", no_wrap=True)
    for name in ("\nNested", "\nShadow", "\nPV", "Shadow /\nnested", "pub-\nlished", "PV /\nnested", "pub-\nlished"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("\nSign", no_wrap=True)
    heading = None
    for row in found.rows:
        if row.isolation is not heading:
            heading = row.isolation
            table.add_row(_HEADINGS[heading], style="dim")
        shadow, pv = row.comparison("shadow"), row.comparison("pv")
        table.add_row(
            row.operation.name,
            *(_cycles(row, way) for way in ("ept", "shadow", "pv")),
            *(cell for each in (shadow, pv) for cell in _ratios(each)),
            {None: "", True: "right", False: "WRONG"}[row.agrees],
            style="red" if row.agrees is False else "",
        )
    return table


def _cycles(row: Row, way: str) -> str:
    return f"{row.cycles[way]:,.0f}" if way in row.cycles else "-"


def _ratios(each: Comparison | None) -> tuple[str, str]:
    """What is published of a ratio: its size, or its sign alone."""
    if each is None:
        return "-", ""
    if each.published is not None:
        return f"{each.ratio:.2f}", f"{each.published:.1f}"
    return f"{each.ratio:.2f}", "" if each.expected is None else f"{each.expected.value}"


def summary(found: Signs) -> str:
    """How many signs are right, what they are compared with, and what the kernel did."""
    known = [row for row in found.rows if row.agrees is not None]
    return "\n".join(
        [
            f"Signs as published: {sum(row.agrees is True for row in known)} of {len(known)}, by",
            f"{SOURCE}.",
            "PVM shadows its guests' page tables, Xen does not: there only signs compare.",
            f"The HVM kernels use {'PCIDs' if found.uses_pcid() else 'no PCIDs'}. pti: page-table isolation; a PV kernel has none.",
        ]
    )
