"""The exits and the hypercalls of a run as tables, in the columns of ``perf kvm stat``: guest cycles in one, host time in another.

They fit a terminal of 80 columns: figures that are too long are rounded. ``--stats`` has them in full.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from rich.table import Table

from hvmx.exits import ExitReason, detail_name
from hvmx.pv.numbers import sub_operation_name
from hvmx.report.plain_table import plain_table
from hvmx.statistic import Statistic
from hvmx.vocabulary import DETAILS

DETAILS_SHOWN = 6
"""At most this many ports, MSRs or pages are shown for a reason: the most frequent."""
SHARE_SHOWN = 100
"""It gets a line of its own if it has at least this share of all exits, or of all their guest cycles."""

# The longest name, of a page, has 20 characters; these, the percentages and a space between make 80.
_SAMPLES_WIDTH = len("9,999,999")
_CYCLES_WIDTH = len("Avg cycles")
_TITLE_WIDTH = 20  # of a number in the title


def exit_table(statistics: Mapping[ExitReason, Statistic]) -> Table:
    """By reason, the most frequent first, and below it by vector, register, port, MSR or page."""
    rows = [
        _Row(reason.name, row, partial(detail_name, reason), DETAILS.get(reason, "")) for reason, row in statistics.items()
    ]
    return _in_guest_cycles("Exits", "VM-EXIT", rows)


def hypercall_table(statistics: Mapping[str, Statistic]) -> Table:
    """By name, the most frequent first, and below it by sub-operation."""
    return _in_guest_cycles("Hypercalls", "HYPERCALL", _hypercalls(statistics))


def host_time_table(statistics: Mapping[ExitReason, Statistic]) -> Table:
    """The host time of handling the exits, by reason, in the same order."""
    rows = [_Row(reason.name, row, str, "") for reason, row in statistics.items()]
    return _in_host_time("Host time of handling them", "VM-EXIT", rows)


def hypercall_time_table(statistics: Mapping[str, Statistic]) -> Table:
    """The host time of the functions behind the hypercalls, of which some calls were timed."""
    return _in_host_time("Host time of the hypercalls, by those that were timed", "HYPERCALL", _hypercalls(statistics))


@dataclass(frozen=True)
class _Row:
    name: str
    statistic: Statistic
    detail: Callable[[int], str]
    """What a number of its details is called."""
    kind: str
    """What all of them are."""


def _hypercalls(statistics: Mapping[str, Statistic]) -> list[_Row]:
    return [_Row(name, row, partial(sub_operation_name, name), "sub-operation") for name, row in statistics.items()]


def _in_guest_cycles(what: str, heading: str, rows: Sequence[_Row]) -> Table:
    """Those that do not get a line of their own are added up in one."""
    everything = _sum([row.statistic for row in rows])
    count, cycles = (short_number(value, _TITLE_WIDTH) for value in (everything.count, everything.guest_cycles))
    names = ("Samples", "Samples%", "Cycles%", "Min cycles", "Max cycles", "Avg cycles")
    table = _table(f"{what}: {count}, which took {cycles} guest cycles", heading, names)
    for row in rows:
        table.add_row(row.name, *_cells(row.statistic, everything))
        details = sorted(row.statistic.detail.items(), key=lambda item: (-item[1].count, item[0]))
        shown = [item for item in details if _is_worth_a_line(item[1], everything)][:DETAILS_SHOWN]
        rest = [item for item in details if item not in shown]
        if len(rest) == 1:  # its line is no longer than one that counts it
            shown, rest = shown + rest, []
        for number, one in shown:
            table.add_row(f"  {row.detail(number)}", *_cells(one, everything), style="dim")
        if rest:
            name = f"  + {len(rest)} more {row.kind}s" if shown else f"  {len(rest)} {row.kind}s"
            table.add_row(name, *_cells(_sum([one for _, one in rest]), everything), style="dim")
    if rows:
        table.add_row("all", *_cells(everything, everything))
    return table


def _in_host_time(title: str, heading: str, rows: Sequence[_Row]) -> Table:
    everything = _sum([row.statistic for row in rows])
    table = _table(title, heading, ("Samples", "Host time", "Time%", "Min host", "Max host", "Avg host"))
    for name, row in (*((row.name, row.statistic) for row in rows), ("all", everything)):
        table.add_row(
            name,
            short_number(row.count, _SAMPLES_WIDTH),
            _host(row.host_ns),
            _percent(row.host_ns, everything.host_ns),
            _host(row.host_ns_min),
            _host(row.host_ns_max),
            _host(row.host_ns / row.count if row.count else 0),
        )
    return table


def _table(title: str, heading: str, names: Collection[str]) -> Table:
    table = plain_table(title)
    table.add_column(heading, no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _sum(rows: Collection[Statistic]) -> Statistic:
    return Statistic(
        count=sum(row.count for row in rows),
        guest_cycles=sum(row.guest_cycles for row in rows),
        guest_cycles_min=min((row.guest_cycles_min for row in rows), default=0),
        guest_cycles_max=max((row.guest_cycles_max for row in rows), default=0),
        host_ns=sum(row.host_ns for row in rows),
        host_ns_min=min((row.host_ns_min for row in rows), default=0),
        host_ns_max=max((row.host_ns_max for row in rows), default=0),
    )


def _is_worth_a_line(row: Statistic, everything: Statistic) -> bool:
    return (
        row.count * SHARE_SHOWN >= everything.count
        or row.guest_cycles * SHARE_SHOWN >= everything.guest_cycles > 0
    )


def _cells(row: Statistic, everything: Statistic) -> tuple[str, ...]:
    return (
        short_number(row.count, _SAMPLES_WIDTH),
        _percent(row.count, everything.count),
        _percent(row.guest_cycles, everything.guest_cycles),
        short_number(row.guest_cycles_min, _CYCLES_WIDTH),
        short_number(row.guest_cycles_max, _CYCLES_WIDTH),
        short_number(row.guest_cycles_average, _CYCLES_WIDTH, 1),
    )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}%" if whole else "-"


def short_number(value: float, width: int, places: int = 0) -> str:
    """In full if there is room, else in a unit with which it fits."""
    text = f"{value:,.{places}f}"
    if len(text) <= width:
        return text
    return _in_unit(value, (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)))


def _host(nanoseconds: float) -> str:
    if nanoseconds < 1e3:
        return f"{nanoseconds:.0f} ns"
    return _in_unit(nanoseconds, (("s", 1e9), ("ms", 1e6), ("us", 1e3)))


def _in_unit(value: float, units: Collection[tuple[str, float]]) -> str:
    unit, size = next((unit, size) for unit, size in units if value >= size)
    return f"{value / size:.2f} {unit}" if value < 1000 * size else f"{value / size:.0f} {unit}"
