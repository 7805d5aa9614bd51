"""A comparison at a glance: performance, compatibility, security and resources, a few figures of each.

What is behind them is in the tables of ``hvmx.report.glance_details``. Figures of this host have a table of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from rich.table import Table

from hvmx.comparison.compatibility import Offer
from hvmx.comparison.interface import Kind
from hvmx.comparison.ledger import Part, by_part
from hvmx.comparison.outcome import Outcome, Refusal
from hvmx.comparison.runs import BUNDLED
from hvmx.comparison.ways import BY_NAME
from hvmx.report.exit_table import short_number
from hvmx.report.plain_table import plain_table

SHARE_SHOWN = 0.05
"""A part of the guest cycles has a line if some way has at least this share of its own there."""
NONE = "-"
_NAMES_SHOWN = 6
_WIDTH = len("999,999,999")
"""Of figures that grow with the run: with four ways, a table of 80 columns."""
_NAME_WIDTH = 80 - 4 * (_WIDTH + 1)

Cell = Callable[[Outcome], str]


def glance_tables(outcomes: Mapping[str, Outcome], refusals: Sequence[Refusal] = ()) -> Iterator[Table]:
    """The four rows, each with its figures, by way, with notes; then what the runs took of this host."""
    of = dict.fromkeys(f": {outcome.guest} guest, {outcome.profile}" for outcome in outcomes.values())
    table = table_of_ways(f"At a glance{''.join(of)}", outcomes)
    for heading, cells in glance_rows(outcomes).items():
        add_rows(table, outcomes, heading, cells)
    yield table
    notes = plain_table("")  # of its own: as a caption it would be as narrow as the table
    notes.show_header = False
    notes.add_column(max_width=80)
    for note in _notes(outcomes, refusals):
        notes.add_row(note)
    yield notes
    host = table_of_ways("Resources of this host, at this run", outcomes)
    add_rows(host, outcomes, None, _HOST)
    yield host


def glance_rows(outcomes: Mapping[str, Outcome]) -> dict[str, Mapping[str, Cell]]:
    """The figures of each row by what they are: each a function of the outcome, to text."""
    return {
        "Performance": dict(_performance(outcomes)),
        "Compatibility": _COMPATIBILITY,
        "Security": dict(_security(outcomes)),
        "Resources": _RESOURCES,
    }


def table_of_ways(title: str, outcomes: Mapping[str, Outcome], caption: str | None = None) -> Table:
    """With a column for what the lines are and one for each way."""
    table = plain_table(title, caption)
    table.add_column("", max_width=_NAME_WIDTH)
    for way in outcomes:
        table.add_column(BY_NAME[way].title.replace(" ", "\n"), justify="right", no_wrap=True)
    return table


def add_rows(table: Table, outcomes: Mapping[str, Outcome], heading: str | None, cells: Mapping[str, Cell]) -> None:
    if heading is not None:
        table.add_row(heading, style="bold")
    for name, cell in cells.items():
        table.add_row(f"  {name}", *(cell(outcome) for outcome in outcomes.values()))


def _performance(outcomes: Mapping[str, Outcome]) -> Iterator[tuple[str, Cell]]:
    fewest = min((outcome.guest_cycles for outcome in outcomes.values()), default=0)
    yield "guest cycles", lambda outcome: short_number(outcome.guest_cycles, _WIDTH)
    yield "more than the fewest", lambda outcome: f"{100 * (outcome.guest_cycles / fewest - 1):+,.0f}%"
    shown = [part for part in Part if any(_share(part, outcome) >= SHARE_SHOWN for outcome in outcomes.values())]
    for part in shown:
        yield f"of them {part.value}", partial(_percent, (part,))
    yield "of them all else", partial(_percent, [part for part in Part if part not in shown])


def _percent(parts: Sequence[Part], outcome: Outcome) -> str:
    return f"{100 * sum(_share(part, outcome) for part in parts):.0f}%"


def _share(part: Part, outcome: Outcome) -> float:
    parts = by_part(outcome.ledger)
    return parts.get(part, 0) / max(sum(parts.values()), 1)


def _used(*offers: Offer) -> Cell:
    def cell(outcome: Outcome) -> str:
        return f"{sum(use.pv in offers for use in outcome.uses)}" if outcome.uses else NONE

    return cell


_COMPATIBILITY: Mapping[str, Cell] = {
    "instructions, devices used": _used(*Offer),
    "of them offered by PV": _used(Offer.YES),
    "to a dom0 only": _used(Offer.DOM0),
    "to no PV guest": _used(Offer.NO),
}


def _security(outcomes: Mapping[str, Outcome]) -> Iterator[tuple[str, Cell]]:
    for kind in Kind:
        if any(outcome.interface.of(kind) for outcome in outcomes.values()):
            yield f"{kind.value}, reached/there", partial(_reached, kind)
    yield "requests refused", lambda outcome: _unless_native(outcome, f"{outcome.interface.refusals:,}")
    yield (
        "lines of hvmx, reached/there",
        lambda outcome: _unless_native(
            outcome, f"{outcome.interface.reached_lines:,}/{outcome.interface.reachable_lines:,}"
        ),
    )
    yield "lines on the way there", lambda outcome: _unless_native(outcome, f"{outcome.interface.shared_lines:,}")
    yield "lines of the core", lambda outcome: _unless_native(outcome, f"{outcome.interface.core_lines:,}")


def _reached(kind: Kind, outcome: Outcome) -> str:
    interface = outcome.interface
    return f"{interface.reached(kind)}/{interface.reachable(kind)}" if interface.of(kind) else NONE


def _unless_native(outcome: Outcome, text: str) -> str:
    return text if outcome.interface.services else NONE


def page_tables(outcome: Outcome) -> str:
    """How many pages of them there are beside, or below, those that the guest has to itself."""
    resources = outcome.resources
    kinds = {"nested": resources.nested_tables, "shadow": resources.shadow_tables, "typed": resources.typed_tables}
    return ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count) or NONE


_RESOURCES: Mapping[str, Cell] = {
    "page tables, pages": page_tables,
    "state of devices, bytes": lambda outcome: _unless_native(outcome, f"{outcome.resources.device_state:,}"),
    "state of domains, bytes": lambda outcome: (
        f"{outcome.resources.domain_state + outcome.resources.frame_table:,}" if outcome.resources.domain_state else NONE
    ),
}


def _of_seconds(seconds: Callable[[Outcome], float]) -> Cell:
    return lambda outcome: f"{100 * seconds(outcome) / outcome.host.seconds:.0f}%" if outcome.host.seconds else NONE


_HOST: Mapping[str, Cell] = {
    "host time, ms": lambda outcome: f"{1000 * outcome.host.seconds:,.1f}",
    "of it, handlers and devices": _of_seconds(lambda outcome: outcome.host.exit_seconds),
    "of it, hypercalls": _of_seconds(lambda outcome: outcome.host.hypercall_seconds),
    "memory of the core, KiB": lambda outcome: NONE if outcome.host.core_memory is None else f"{outcome.host.core_memory >> 10:,}",
}


def _notes(outcomes: Mapping[str, Outcome], refusals: Sequence[Refusal]) -> Iterator[str]:
    for refusal in refusals:
        yield f"Not as {BY_NAME[refusal.way].title}: {refusal.why}."
    lacking = {use.name for outcome in outcomes.values() for use in outcome.uses if use.pv is Offer.NO}
    if lacking:
        # There may be very many MSRs.
        names = sorted(lacking, key=lambda name: (name.startswith(("RDMSR", "WRMSR")), name))
        yield f"Used, and offered to no PV guest: {enumerated(names)}."
    if any(outcome.guest == BUNDLED for outcome in outcomes.values()):
        yield "The whole run is a test program's mix of operations, and nobody's workload."
    yield "What is behind each row: --details performance, compatibility, security or resources."


def enumerated(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    rest = len(names) - _NAMES_SHOWN
    shown = names if rest <= 1 else [*names[:_NAMES_SHOWN], f"{rest} more"]
    return ", ".join(shown)
