"""Why an operation, or a whole run, takes as many guest cycles as it does: each item of its ledger with its price, and where that
price stands."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from hvmx import guests
from hvmx.comparison.ledger import Item, Part, gathered
from hvmx.comparison.outcome import Operation, Outcome
from hvmx.comparison.ways import BY_NAME
from hvmx.comparison.winner import Hinge, Verdict, Worst, verdict
from hvmx.cost import Profile, marks_in_words
from hvmx.report.plain_table import plain_table

KINDS_SHOWN = 4
"""Of what a count is made of, the most frequent."""

SMALL = 0.01
"""What comes to less than this share of an operation stands in one line together."""

NAME_WIDTH = 48
"""Columns; with the others they make 80."""

FAR = 4
"""A limit of an assumed figure that is so many times what it is now, or such a part, has no line: only the nearest one has."""

FIGURES_SHOWN = 3
"""Of those that are varied together, the most telling."""

_ESTIMATE = "estimate"
"""The key that profiles have for a source that is none."""


@dataclass(frozen=True)
class Charge:
    """An item of a ledger, for one operation."""

    item: Item
    times: float
    guest_cycles: float
    each: float | None
    """Its price in guest cycles; None where it has none, or several."""

    @property
    def name(self) -> str:
        """With what the count is made of, the most frequent first."""
        if not self.item.of:
            return self.item.name
        scale = self.times / self.item.count if self.item.count else 0.0
        kinds = [f"{name} {count_in_words(count * scale)}" for name, count in self.item.of[:KINDS_SHOWN]]
        more = len(self.item.of) - KINDS_SHOWN
        return f"{self.item.name}: {', '.join(kinds)}" + (f" and {more} more" if more > 0 else "")


def charges(profile: Profile, operation: Operation) -> list[Charge]:
    """What one operation is charged for, the dearest first."""
    found, small, least = [], 0, SMALL * operation.guest_cycles
    for item in operation.ledger:
        figure = profile.figure(item.price)
        each = figure.cycles if figure is not None else None
        if abs(item.guest_cycles) < least:
            small += item.units
        else:
            found.append(Charge(item, item.count / operation.count, item.guest_cycles / operation.count, each))
    found.sort(key=lambda charge: -charge.guest_cycles)
    if small:
        others = Item(Part.CODE, f"others, each below {SMALL:.0%}", 0, small)
        found.append(Charge(others, 0.0, others.guest_cycles / operation.count, None))
    return found


def explanation(profile: Profile, outcomes: Mapping[str, Outcome], name: str) -> Table:
    """Of one operation, in each way that has it."""
    ways = {way: outcome.operations[name] for way, outcome in outcomes.items() if name in outcome.operations}
    heading = f"{name}: {guests.WORKLOADS[name].does}" if name in guests.WORKLOADS else name
    return _table(heading, profile, ways, winner_in_words(verdict(profile, outcomes, name)))


def explanation_of_runs(profile: Profile, outcomes: Mapping[str, Outcome]) -> Table:
    """Of whole runs, from the first instruction on."""
    runs = {way: Operation("run", 1, outcome.guest_cycles, tuple(gathered(outcome.ledger))) for way, outcome in outcomes.items()}
    return _table("Whole runs", profile, runs, [])


def _table(heading: str, profile: Profile, ways: Mapping[str, Operation], said: list[str]) -> Table:
    lines: list[str] = []
    table = plain_table("\n".join([heading, *said, ""]))
    table.add_column(f"Guest cycles of {profile.name}", width=NAME_WIDTH)
    for column in ("times", "each", "cycles", "price"):
        table.add_column(column, justify="right", no_wrap=True)
    shown: dict[tuple[tuple[str, str], ...], str] = {}
    for way, operation in ways.items():
        found = charges(profile, operation)
        rows = tuple((charge.name, _cycles(charge.guest_cycles)) for charge in found)
        title = BY_NAME[way].title
        if rows in shown:
            table.add_row(f"{title}: as {shown[rows]}", "", "", _cycles(operation.cycles_each), "", style="bold")
            continue
        shown[rows] = title
        table.add_row(title, "", "", _cycles(operation.cycles_each), "", style="bold")
        for charge in found:
            line = "" if charge.item.price is None else profile.line_of(charge.item.price)
            if line and line not in lines:
                lines.append(line)
            number = f"[{lines.index(line) + 1}]" if line else ""
            each = "" if charge.each is None else f"{charge.each:,g}"
            times = count_in_words(charge.times) if charge.item.count else ""
            table.add_row(_indented(charge.name), times, each, _cycles(charge.guest_cycles), number)
    table.caption = "\n".join(["", *_legend(profile, lines), *_notes(ways)])
    return table


def _notes(ways: Mapping[str, Operation]) -> Iterator[str]:
    calls = [item for operation in ways.values() for item in operation.ledger if item.price == "paravirtual.hypercall"]
    if any(sum(count for _, count in item.of) > item.count for item in calls):
        yield "Hypercalls within a multicall pay no way in and out of their own."


def _indented(name: str) -> str:
    return textwrap.fill(name, NAME_WIDTH, initial_indent="  ", subsequent_indent="    ")


def _legend(profile: Profile, lines: Sequence[str]) -> Iterator[str]:
    """What each price is, and what the sources are called, each once."""
    keys = {title: key for key, title in profile.sources.items()}
    sources: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        figure = profile.written.get(line)
        if figure is None:
            yield f"[{number}] the figures of [{line}]: {marks_in_words(profile.marks(f'{line}.'))}"
            continue
        source = keys[figure.source]
        if source == _ESTIMATE:
            yield f"[{number}] {line}, {figure.mark.value}: {figure.where}"
        else:
            sources[source] = figure.source
            yield f"[{number}] {line}, {figure.mark.value}, {source}: {figure.where}"
    for key, title in sources.items():
        yield f"{key}: {title}"


def winner_in_words(found: Verdict | None) -> list[str]:
    """Who wins, and on which assumed figures that hangs."""
    if found is None:
        return []
    winners = " and ".join(BY_NAME[way].title for way in found.winners)
    lines = [f"{winners} {'wins' if len(found.winners) == 1 else 'win'} among the ways that have a hypervisor."]
    if found.sure:
        lines.append("It stays so with every assumed figure anywhere between half and double.")
    elif found.worst is not None:
        lines.append(_worst(found.worst))
    for place, hinge in enumerate(found.hinges):
        if place == 0 or max(hinge.limit / hinge.now, hinge.now / hinge.limit) < FAR:
            lines.append(_hinge(hinge))
    return lines


def _worst(worst: Worst) -> str:
    changes = [
        f"{how} {', '.join(keys[:FIGURES_SHOWN])}" + (f" and {len(keys) - FIGURES_SHOWN} more" if len(keys) > FIGURES_SHOWN else "")
        for how, keys in (("double", worst.doubled), ("half", worst.halved))
        if keys
    ]
    return (
        f"That hangs on assumed figures: with {' and '.join(changes)} it takes {worst.guest_cycles:,.0f}, and "
        f"{BY_NAME[worst.rival].title} {worst.rival_cycles:,.0f}."
    )


def _hinge(hinge: Hinge) -> str:
    """From where on another way wins, by one figure alone."""
    side = "above" if hinge.below else "below"
    return (
        f"With {hinge.figure} (now {hinge.now:,g}, assumed) {side} {hinge.limit:,.0f} guest cycles "
        f"{BY_NAME[hinge.then].title} would win."
    )


def count_in_words(times: float) -> str:
    return f"{times:,.0f}" if times >= 100 or times == round(times) else f"{times:.2f}" if abs(times) < 10 else f"{times:.1f}"


def _cycles(cycles: float) -> str:
    return f"{cycles:,.1f}"
