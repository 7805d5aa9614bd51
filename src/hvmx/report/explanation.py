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
from hvmx.comparison.winner import Hinge, Verdict, verdict
from hvmx.cost import Profile, Provenance
from hvmx.report.plain_table import plain_table

KINDS_SHOWN = 4
"""Of what a count is made of, the most frequent."""

SMALL = 0.5
"""Guest cycles of an operation: what comes to less stands in one line together."""

NAME_WIDTH = 48
"""Columns; with the others they make 80."""

FAR = 100
"""An assumed figure that would have to be so many times as large, or as small, is not worth a line."""

_OF_SEVERAL = {"strings": "the figures of [strings]", "caches": "the figures of [caches]"}
"""What stands for the prices of items that have more than one."""


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
        return f"{self.item.name}: {', '.join(kinds)}" + (f" and {more} kinds more" if more > 0 else "")


def charges(profile: Profile, operation: Operation) -> list[Charge]:
    """What one operation is charged for, the dearest first."""
    figures = dict(profile.figures())
    found, small = [], 0
    for item in operation.ledger:
        figure = figures.get(item.price or "")
        each = figure.cycles if figure is not None else None
        if abs(item.guest_cycles) < SMALL * operation.count:
            small += item.units
        else:
            found.append(Charge(item, item.count / operation.count, item.guest_cycles / operation.count, each))
    found.sort(key=lambda charge: -charge.guest_cycles)
    if small:
        others = Item(Part.CODE, f"others, each below {SMALL}", 0, small)
        found.append(Charge(others, 0.0, others.guest_cycles / operation.count, None))
    return found


def explanation(profile: Profile, outcomes: Mapping[str, Outcome], name: str) -> Table:
    """Of one operation, in each way that has it."""
    ways = {way: outcome.operations[name] for way, outcome in outcomes.items() if name in outcome.operations}
    heading = f"{name}: {guests.WORKLOADS[name].does}" if name in guests.WORKLOADS else name
    return _table(heading, profile, ways, winner_in_words(profile, verdict(profile, outcomes, name)))


def explanation_of_runs(profile: Profile, outcomes: Mapping[str, Outcome]) -> Table:
    """Of whole runs, from the first instruction on."""
    runs = {way: Operation("run", 1, outcome.guest_cycles, tuple(gathered(outcome.ledger))) for way, outcome in outcomes.items()}
    return _table("Whole runs", profile, runs, [])


def _table(heading: str, profile: Profile, ways: Mapping[str, Operation], said: list[str]) -> Table:
    figures: list[str] = []
    table = plain_table(f"{heading}\n")
    table.add_column(f"Guest cycles of {profile.name}", width=NAME_WIDTH)
    for column in ("times", "each", "cycles", "figure"):
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
            key = charge.item.price
            if key is not None and key not in figures:
                figures.append(key)
            number = f"[{figures.index(key) + 1}]" if key is not None else ""
            each = "" if charge.each is None else f"{charge.each:,g}"
            times = count_in_words(charge.times) if charge.item.count else ""
            table.add_row(_indented(charge.name), times, each, _cycles(charge.guest_cycles), number)
    table.caption = "\n".join(["", *_legend(profile, figures), *(["", *said] if said else [])])
    return table


def _indented(name: str) -> str:
    return textwrap.fill(name, NAME_WIDTH, initial_indent="  ", subsequent_indent="    ")


def _legend(profile: Profile, keys: Sequence[str]) -> Iterator[str]:
    figures = dict(profile.figures())
    for number, key in enumerate(keys, 1):
        figure = figures.get(key)
        yield f"[{number}] {key}: {figure_in_words(figure) if figure is not None else _OF_SEVERAL[key]}"


def figure_in_words(figure: Provenance) -> str:
    """Its mark, where it is from, and where it stands there."""
    return f"{figure.mark.value}, {figure.source}: {figure.where}"


def winner_in_words(profile: Profile, found: Verdict | None) -> list[str]:
    """Who wins, and on which assumed figures that hangs."""
    if found is None:
        return []
    winners = " and ".join(BY_NAME[way].title for way in found.winners)
    one = len(found.winners) == 1
    lines = [f"{winners} {'wins' if one else 'win'} of the ways that have a hypervisor."]
    if found.sure:
        lines.append("It stays so with every assumed figure anywhere between half and double.")
    else:
        lines.append("That hangs on assumed figures: with each of them somewhere between half and double it may not.")
    lines += [_hinge(hinge, one) for hinge in found.hinges if max(hinge.limit / hinge.now, hinge.now / hinge.limit) < FAR]
    return lines


def _hinge(hinge: Hinge, one: bool) -> str:
    side = "below" if hinge.below else "above"
    verb = "Wins" if one else "Win"
    return (
        f"{verb} for any {hinge.figure} {side} {hinge.limit:,.0f} guest cycles (now {hinge.now:,g}); "
        f"beyond, {BY_NAME[hinge.then].title} does."
    )


def count_in_words(times: float) -> str:
    return f"{times:,.0f}" if times >= 100 or times == round(times) else f"{times:.2f}" if abs(times) < 10 else f"{times:.1f}"


def _cycles(cycles: float) -> str:
    return f"{cycles:,.1f}"
