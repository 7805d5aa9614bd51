"""A comparison as a table, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from hvmx import guests
from hvmx.comparison.outcome import TOTALS, Comparison, Operation, Outcome
from hvmx.comparison.runs import knows_ports
from hvmx.comparison.ways import BY_NAME
from hvmx.comparison.winner import Verdict, verdicts
from hvmx.cost import Profile, marks_in_words
from hvmx.report.caches import NOT_MODELLED, PLACES
from hvmx.report.plain_table import plain_table

FORMAT = 1
"""The version of what ``comparison_json`` gives."""


def ratios(outcomes: Mapping[str, Outcome], operation: str) -> dict[str, float]:
    """The guest cycles of an operation, by way, as multiples of those of the cheapest way."""
    cycles = {
        way: outcome.operations[operation].cycles_each
        for way, outcome in outcomes.items()
        if operation in outcome.operations
    }
    least = min(cycles.values(), default=0.0)
    return {way: value / least if least else 1.0 for way, value in cycles.items()}


def comparison_table(profile: Profile, outcomes: Mapping[str, Outcome]) -> Table:
    """A row for each operation, a column for each way: guest cycles, and multiples of the cheapest."""
    hanging = hang_on_assumed(verdicts(profile, outcomes))
    table = plain_table(
        f"Guest cycles per operation, {profile.name} ({profile.processor})", "\n".join(notes(profile, outcomes, hanging))
    )
    table.add_column("Operation", no_wrap=True)
    for way in outcomes:
        table.add_column(BY_NAME[way].title.replace(" ", "\n"), justify="right", no_wrap=True)
    by_operation = {name: ratios(outcomes, name) for name in guests.WORKLOADS}
    widths = {way: max((len(factor(row[way])) for row in by_operation.values() if way in row), default=0) for way in outcomes}
    for name, by_way in by_operation.items():
        if by_way:
            mark = " *" if name in hanging else ""
            shown = (_cell(run.operations.get(name), by_way.get(way), widths[way]) for way, run in outcomes.items())
            table.add_row(f"{name}{mark}", *shown)
    table.add_row("whole run:", style="dim")
    for total in TOTALS:
        cells = (f"{outcome.totals[total]:,}" for outcome in outcomes.values())
        table.add_row(f"  {total.replace('_', ' ')}", *cells, style="dim")
    for place, title in PLACES.items():
        if any(outcome.caches for outcome in outcomes.values()):
            cells = (f"{outcome.caches[place]:,}" if outcome.caches else "-" for outcome in outcomes.values())
            table.add_row(f"  data in {title}", *cells, style="dim")
    return table


def hang_on_assumed(found: Mapping[str, Verdict]) -> list[str]:
    """The operations of which another way may win with assumed figures between half and double of what they are."""
    return [name for name, one in found.items() if not one.sure]


def _cell(operation: Operation | None, ratio: float | None, width: int) -> Text:
    """Guest cycles and their ratio, which is as wide as the widest of its column: so the figures stand in columns, too."""
    if operation is None or ratio is None:
        return Text("-" + " " * (width + 3))
    return Text(f"{operation.cycles_each:,.0f} {'x ' + factor(ratio):>{width + 2}}", style="bold" if ratio == 1 else "")


def notes(profile: Profile, outcomes: Mapping[str, Outcome], hanging: Collection[str]) -> list[str]:
    """What is to be known of the figures: how near they are, how many of them were published, fitted or assumed, and what
    the star of operations that are ``hanging`` on these says."""
    everything, pv = profile.marks(), profile.marks("paravirtual.")
    said = [
        f"{profile.accuracy[0].upper()}{profile.accuracy[1:]}.",
        f"The profile's {sum(everything.values())} figures: {marks_in_words(everything)}.",
    ]
    if "pv" in outcomes:
        said.append(f"PV's own {sum(pv.values())} ({', '.join(vars(profile.paravirtual))}): {marks_in_words(pv)}.")
    if hanging:
        said.append("*: which way wins hangs on assumed figures; --explain says on which.")
    if "native" in outcomes:
        said += [
            "Native: no exits, and page walks of one dimension; its pages of 2 MB stay whole, where a hypervisor's are of 4 KB.",
            _note_on_ports(profile),
        ]
    if not profile.caches.modelled:
        said.append(f"{NOT_MODELLED.capitalize()}.")
    return said


def _note_on_ports(profile: Profile) -> str:
    port = profile.instructions["io"]
    if knows_ports(profile):
        return f"A native port takes {port.latency:,} guest cycles ({port.mark.value}: {port.where})."
    return (
        f"Native is empty where ports are accessed: of a port {profile.name} has only what the instruction takes, "
        f"{port.latency:,} guest cycles (assumed), which the whole run counts."
    )


def factor(ratio: float) -> str:
    """With three digits, or all of them before the point."""
    return f"{ratio:.2f}" if ratio < 9.995 else f"{ratio:.1f}" if ratio < 99.95 else f"{ratio:,.0f}"


def comparison_csv(comparison: Comparison) -> str:
    """A line for each operation and each count of the whole run, of each run."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(["guest", "profile", "way", "figure", "unit", "value"])
    for run in comparison:
        for operation in run.operations.values():
            lines.writerow([
                run.guest, run.profile, run.way, operation.name, "guest cycles per operation", operation.cycles_each,
            ])  # fmt: skip
        for total in TOTALS:
            unit = "guest cycles" if total == "guest_cycles" else "count"
            lines.writerow([run.guest, run.profile, run.way, f"whole run: {total}", unit, run.totals[total]])
    return out.getvalue()


def comparison_json(comparison: Comparison, profiles: Mapping[str, Profile]) -> dict[str, Any]:
    """The same as data; ``profiles`` are those of the runs, by the names that the runs have for them."""
    return {
        "format": FORMAT,
        "profiles": {
            name: {
                "processor": profile.processor,
                "accuracy": profile.accuracy,
                "figures": {mark.value: count for mark, count in profile.marks().items()},
                "pv_figures": {mark.value: count for mark, count in profile.marks("paravirtual.").items()},
            }
            for name, profile in profiles.items()
        },
        "outcomes": [outcome.as_json() for outcome in comparison.outcomes],
        "refusals": [vars(refusal) for refusal in comparison.refusals],
        "failures": [vars(failure) for failure in comparison.failures],
    }
