"""Cost profiles as tables and as data: which there are, and each figure with its unit and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from hvmx.cost import Mark, Profile, Provenance, marks_in_words
from hvmx.cost.figures import Buffer, Cache, Count, Counts, Families, Figure, Kinds, Timing, Validation
from hvmx.report.plain_table import plain_table

UNITS = {
    "clock.second": "guest cycles a second",
    "pipeline.dispatch": "slots a cycle",
    "pipeline.retire": "micro-operations a cycle",
    "pipeline.window": "micro-operations",
    "pipeline.window_vectors": "registers",
    "strings.movs_bytes": "bytes a cycle",
    "strings.stos_bytes": "bytes a cycle",
    "branches.history_tables": "tables",
    "branches.history_lengths": "branches",
    "branches.table_entries": "entries",
    "branches.target_entries": "entries",
    "branches.target_history": "branches",
    "branches.return_stack": "addresses",
    "tlb.pml4_entries": "entries",
    "tlb.pdpt_entries": "entries",
    "tlb.pd_entries": "entries",
    "tlb.nested_entries": "entries",
    "caches.line": "bytes",
    "caches.overlapping_stores": "stores",
}
"""Of figures whose kind does not say it."""

LONGEST_VALUE = 24
"""Columns of a terminal, where profiles stand side by side; longer lists go on below."""


@dataclass(frozen=True)
class Quantity:
    """One value of a figure."""

    name: str
    value: Any
    unit: str = ""
    """A flag has none."""

    @property
    def text(self) -> str:
        if isinstance(self.value, tuple):
            return " ".join(map(str, self.value)) or "-"
        if isinstance(self.value, bool):
            return self.name if self.value else ""
        return f"{self.value:,}"


def quantities(key: str, figure: Provenance) -> tuple[Quantity, ...]:
    """The values of a figure, by the names that they have in the file; those of uses are as they are written there."""
    match figure:
        case Figure():
            return (Quantity("cycles", figure.cycles, UNITS.get(key, "guest cycles")),)
        case Timing():
            uses = tuple(pipe if cycles == 1 else f"{pipe}*{cycles}" for pipe, cycles in figure.uses)
            return (
                Quantity("latency", figure.latency, "guest cycles"), Quantity("slots", figure.slots, "slots"),
                Quantity("uses", uses, "pipes"), Quantity("serial", figure.serial),
            )  # fmt: skip
        case Count():
            return (Quantity("value", figure.value, UNITS[key]),)
        case Counts():
            return (Quantity("values", figure.values, UNITS[key]),)
        case Families():
            return (Quantity("families", figure.families, "families"),)
        case Kinds():
            return (Quantity("kinds", figure.kinds, "kinds of register"),)
        case Buffer():
            return (
                Quantity("entries", figure.entries, "entries"), Quantity("ways", figure.ways, "ways"),
                Quantity("shared", figure.shared),
            )  # fmt: skip
        case Cache():
            return (
                Quantity("size", figure.size, "KB"), Quantity("ways", figure.ways, "ways"),
                Quantity("cycles", figure.cycles, "guest cycles"),
            )  # fmt: skip
        case Validation():
            return (Quantity("percent", figure.percent, "%"), Quantity("programs", figure.programs, "programs"))
    raise TypeError(f"{key} is of no kind of figure that is known: {figure!r}")


def value_and_unit(key: str, figure: Provenance) -> tuple[str, str]:
    """The values of a figure with commas between them, and their units."""
    found = quantities(key, figure)
    return ", ".join(filter(None, (it.text for it in found))), ", ".join(filter(None, (it.unit for it in found)))


def list_table(profiles: Sequence[Profile]) -> Table:
    """A row for each profile, and one for each of its sources, with how many figures there are by mark."""
    table = plain_table("Cost profiles, their sources, and how many figures are of each mark")
    table.add_column("Profile", no_wrap=True)
    for mark in Mark:
        table.add_column(mark.value, justify="right", no_wrap=True)
    table.add_column("Processor; title of the source", no_wrap=True)
    for profile in profiles:
        table.add_row(profile.name, *_tally(profile.marks()), profile.processor, style="bold")
        for key, title in profile.sources.items():
            marks = [figure.mark for figure in profile.written.values() if figure.source == title]
            table.add_row(f"  {key}", *_tally({mark: marks.count(mark) for mark in Mark}), title)
    return table


def _tally(marks: Mapping[Mark, int]) -> list[str]:
    return [str(marks[mark] or "-") for mark in Mark]


def _source_keys(profile: Profile) -> dict[str, str]:
    """The key of a source by its title; the first, if several have the same."""
    return {title: key for key, title in reversed([*profile.sources.items()])}


def profile_table(profile: Profile) -> Table:
    """A row for each figure of a profile."""
    keys = _source_keys(profile)
    table = plain_table(
        f"{profile.name}: {profile.processor}; {marks_in_words(profile.marks())}",
        "\n".join(("", "Sources:", *(f"  {key}: {title}" for key, title in profile.sources.items()))),
    )
    for name in ("Figure", "Value", "Unit", "Mark", "Source", "Where"):
        table.add_column(name, no_wrap=True)
    for key, figure in profile.written.items():
        table.add_row(key, *value_and_unit(key, figure), figure.mark.value, keys[figure.source], figure.where)
    return table


def side_by_side(profiles: Sequence[Profile]) -> Table:
    """A row for each figure that any of the profiles has, a column for each profile: its value and its mark."""
    table = plain_table("Figures side by side, each with its mark")
    table.add_column("Figure", no_wrap=True)
    for profile in profiles:
        table.add_column(profile.name, max_width=LONGEST_VALUE)
        table.add_column("", no_wrap=True)
    table.add_column("Unit", no_wrap=True)
    for key in dict.fromkeys(key for profile in profiles for key in profile.written):
        cells, unit = [], ""
        for profile in profiles:
            if key in profile.written:
                value, unit = value_and_unit(key, profile.written[key])
                cells += [value, profile.written[key].mark.value]
            else:
                cells += ["-", ""]
        table.add_row(key, *cells, unit)
    return table


def summary_json(profile: Profile) -> dict[str, Any]:
    """What the list says of a profile, as data."""
    return {
        "name": profile.name,
        "processor": profile.processor,
        "cpu": profile.cpu,
        "accuracy": profile.accuracy,
        "sources": dict(profile.sources),
        "marks": {mark.value: count for mark, count in profile.marks().items()},
    }


def profile_json(profile: Profile) -> dict[str, Any]:
    """The same with each figure."""
    keys = _source_keys(profile)
    figures = {
        key: {
            **{quantity.name: quantity.value for quantity in quantities(key, figure)},
            "units": {quantity.name: quantity.unit for quantity in quantities(key, figure) if quantity.unit},
            "mark": figure.mark.value,
            "source": keys[figure.source],
            "where": figure.where,
        }
        for key, figure in profile.written.items()
    }
    return {**summary_json(profile), "figures": figures}
