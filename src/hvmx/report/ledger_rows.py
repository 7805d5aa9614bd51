"""A ledger of guest cycles as rows: each cause with its count, its price, and where the profile has that from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hvmx.comparison.ledger import Item, Part
from hvmx.cost import Mark, Profile, marks_in_words
from hvmx.exits import ExitReason
from hvmx.report.profile_tables import value_and_unit
from hvmx.vocabulary import DETAILS

PLAIN_CODE = ("pipeline", "instructions", "memory", "branches")
"""The tables of a profile that say what the pipeline's own work takes."""

MOST_NUMBERS = 6
"""Of more ports, pages, ... the exits of one reason are together in one row."""


@dataclass(frozen=True)
class Row:
    """What one thing took, of the whole run or of each operation."""

    part: Part
    cause: str
    count: float
    guest_cycles: float
    key: str = ""
    """Of the figure, or the tables of the profile in brackets; empty where there is none."""
    price: str = ""
    """The figure's value with its unit; empty where there is no single one."""
    mark: str = ""
    source: str = ""
    """Its title, and the place in it."""


def ledger_rows(items: Iterable[Item], profile: Profile, operations: int = 1) -> list[Row]:
    """The items of so many operations, each with its share of one."""
    return [
        Row(
            item.part, _cause(item, operations), item.count / operations, item.guest_cycles / operations,
            *_provenance(item, profile),
        )
        for item in _gathered(items)
    ]  # fmt: skip


def short(count: float) -> str:
    """With the digits that a reader needs."""
    return f"{count:,.0f}" if count >= 1000 or count == int(count) else f"{count:,.4g}"


def _cause(item: Item, operations: int) -> str:
    """With what the count is made of, as far as it is one for each operation."""
    of = ", ".join(f"{short(count / operations)} {name}" for name, count in item.of if count >= operations)
    return f"{item.name}: {of}" if of else item.name


def _provenance(item: Item, profile: Profile) -> tuple[str, ...]:
    """Key, price, mark and source."""
    if item.price is None and item.part is not Part.CODE:
        return ()
    if item.price is None or "." not in item.price:
        return _of_tables(PLAIN_CODE if item.price is None else (item.price,), profile)
    key = item.price
    if key not in profile.written and key.startswith("exits."):
        key = "exits.default"
    figure = profile.written[key]
    return key, " ".join(value_and_unit(key, figure)), figure.mark.value, f"{figure.source}: {figure.where}"


def _of_tables(tables: Sequence[str], profile: Profile) -> tuple[str, ...]:
    places = tuple(f"{table}." for table in tables)
    figures = [figure for key, figure in profile.written.items() if key.startswith(places)]
    marks = [figure.mark for figure in figures]
    key = " ".join(f"[{table}]" for table in tables)
    return key, "", marks_in_words({mark: marks.count(mark) for mark in Mark}), "each figure has its own"


def _gathered(items: Iterable[Item]) -> Iterator[Item]:
    """Where exits of one reason are of many ports, pages, ..., one item for all of them."""
    together: dict[tuple[Part, str], list[Item]] = {}
    for item in items:
        # Of what is no exit, the names are different ones.
        name = item.name.partition(" ")[0] if item.part is Part.EXITS else item.name
        together.setdefault((item.part, name), []).append(item)
    for (part, reason), found in together.items():
        if len(found) <= MOST_NUMBERS:
            yield from found
        else:
            name = f"{reason}, {len(found)} {DETAILS[ExitReason[reason]]}s"
            yield Item(part, name, sum(it.count for it in found), sum(it.units for it in found), found[0].price)
