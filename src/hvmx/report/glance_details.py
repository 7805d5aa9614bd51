"""What is behind each row of a comparison at a glance, in tables of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from rich.table import Table

from hvmx.comparison.compatibility import Use
from hvmx.comparison.interface import Kind, Service
from hvmx.comparison.ledger import Part, by_part
from hvmx.comparison.outcome import Outcome
from hvmx.cost import FRACTION
from hvmx.exits import Statistic
from hvmx.report.exit_table import short_number
from hvmx.report.glance import NONE, add_rows, table_of_ways

_Outcomes = Mapping[str, Outcome]

_WIDTH = len("999,999,999")


def performance_tables(outcomes: _Outcomes) -> Iterator[Table]:
    """Guest cycles by what they went to, exits by reason; and the hypercalls by number."""
    table = table_of_ways("Performance: guest cycles by what they went to", outcomes)
    for part in Part:
        if any(by_part(outcome.ledger).get(part) for outcome in outcomes.values()):
            units = [by_part(outcome.ledger).get(part, 0) for outcome in outcomes.values()]
            table.add_row(part.value, *map(_cycles, units), style="bold")
            items = {way: _by_name(outcome, part) for way, outcome in outcomes.items()}
            for name in dict.fromkeys(name for found in items.values() for name in found):
                table.add_row(f"  {name}", *(_cycles(found.get(name, 0)) for found in items.values()))
    yield table
    calls = {way: outcome.hypercalls for way, outcome in outcomes.items()}
    names = dict.fromkeys(name for found in calls.values() for name in found)
    if names:
        table = table_of_ways("Performance: hypercalls by number, and guest cycles of each on average", outcomes)
        for name in names:
            table.add_row(name, *(_calls(found.get(name)) for found in calls.values()))
        yield table


def _calls(row: Statistic | None) -> str:
    return NONE if row is None else f"{row.count:,} x {row.guest_cycles_average:,.0f}"


def _by_name(outcome: Outcome, part: Part) -> dict[str, int]:
    """The units of each item of a part; exits together by reason."""
    found: dict[str, int] = {}
    for item in outcome.ledger:
        if item.part is part:
            name = item.reason or item.name
            found[name] = found.get(name, 0) + item.units
    return found


def _cycles(units: int) -> str:
    return short_number(units // FRACTION, _WIDTH) if units else NONE


def compatibility_tables(outcomes: _Outcomes) -> Iterator[Table]:
    """What an unmodified guest used, and whether PV offers it."""
    table = table_of_ways(
        "Compatibility: exits by which an unmodified guest used virtual hardware",
        {way: outcome for way, outcome in outcomes.items() if outcome.uses},
        "Offered to PV is what a kernel that tries it in a domain gets; a register, if it can be read, and written with the "
        "value that it has. The rest PV guests do by hypercalls and events.",
    )
    table.add_column("offered to PV")
    used: dict[str, dict[str, Use]] = {}
    for way, outcome in outcomes.items():
        for use in outcome.uses:
            used.setdefault(use.name, {})[way] = use
    for name, by_way in sorted(used.items(), key=lambda item: -max(use.count for use in item[1].values())):
        counts = (
            f"{by_way[way].count:,}" if way in by_way else NONE for way, outcome in outcomes.items() if outcome.uses
        )
        table.add_row(name, *counts, next(iter(by_way.values())).pv.value)
    yield table


def security_tables(outcomes: _Outcomes) -> Iterator[Table]:
    """All that answers a guest, with its requests; what was refused; and the lines of code by file."""
    for kind in Kind:
        services: dict[str, dict[str, Service]] = {}
        for way, outcome in outcomes.items():
            for service in outcome.interface.of(kind):
                services.setdefault(service.name, {})[way] = service
        if services:
            yield _services_table(kind, services, outcomes)
    table = table_of_ways("Security: requests refused", outcomes)
    refused = {way: outcome.interface.refused for way, outcome in outcomes.items()}
    for name in dict.fromkeys(name for found in refused.values() for name in found):
        table.add_row(name, *(f"{found[name]:,}" if name in found else NONE for found in refused.values()))
    yield table
    yield _lines_table(outcomes)


def _services_table(kind: Kind, services: Mapping[str, Mapping[str, Service]], outcomes: _Outcomes) -> Table:
    table = table_of_ways(f"Security: {kind.value}, requests", outcomes)
    unused = 0
    for name, by_way in services.items():
        if any(service.requests for service in by_way.values()) or kind is not Kind.MSRS:
            cells = (f"{by_way[way].requests:,}" if way in by_way else NONE for way in outcomes)
            table.add_row(name, *cells)
        else:
            unused += 1
    if unused:
        table.add_row(f"{unused} more, unused", *("" for _ in outcomes), style="dim")
    return table


def _lines_table(outcomes: _Outcomes) -> Table:
    """By file: where a way can reach it, and in brackets where the guest did not."""
    table = table_of_ways(
        "Security: lines of code by file, without blanks and comments",
        outcomes,
        "In brackets: there for the guest, and not reached.",
    )
    for file in sorted({file for outcome in outcomes.values() for file in outcome.interface.lines}):
        table.add_row(file, *(_lines_of(outcome, file) for outcome in outcomes.values()))
    shared: Mapping[str, Callable[[Outcome], int]] = {
        "on the way there": lambda outcome: outcome.interface.shared_lines,
        "core": lambda outcome: outcome.interface.core_lines,
    }
    for name, lines in shared.items():
        table.add_row(name, *(f"{lines(outcome):,}" if lines(outcome) else NONE for outcome in outcomes.values()))
    return table


def _lines_of(outcome: Outcome, file: str) -> str:
    lines = outcome.interface.lines.get(file)
    if lines is None:
        return NONE
    reached = any(service.file == file and service.requests for service in outcome.interface.services)
    return f"{lines:,}" if reached else f"({lines:,})"


def resources_tables(outcomes: _Outcomes) -> Iterator[Table]:
    """What a hypervisor keeps for the guest, and what the run took of this host."""
    table = table_of_ways("Resources: what is kept for the guest at the end", outcomes)
    add_rows(table, outcomes, None, {
        "guest memory, bytes": lambda outcome: f"{outcome.resources.guest_memory:,}",
        "nested page tables, pages": lambda outcome: f"{outcome.resources.nested_tables:,}",
        "shadow page tables, pages": lambda outcome: f"{outcome.resources.shadow_tables:,}",
        "typed page tables, pages": lambda outcome: f"{outcome.resources.typed_tables:,}",
        "frame table, bytes": lambda outcome: f"{outcome.resources.frame_table:,}",
        "domain's state, bytes": lambda outcome: f"{outcome.resources.domain_state:,}",
        "devices' state, bytes": lambda outcome: f"{outcome.resources.device_state:,}",
    })  # fmt: skip
    yield table
    host = table_of_ways("Resources of this host", outcomes, "Host time in ms, of this run; memory resident at its end.")
    add_rows(host, outcomes, None, {
        "run": lambda outcome: f"{1000 * outcome.host.seconds:,.2f}",
        "handlers and devices": lambda outcome: f"{1000 * outcome.host.exit_seconds:,.2f}",
        "hypercalls": lambda outcome: f"{1000 * outcome.host.hypercall_seconds:,.2f}",
        "the rest: the native loop": lambda outcome: f"{1000 * outcome.host.other_seconds:,.2f}",
        "memory of the core, bytes": lambda outcome: (
            NONE if outcome.host.core_memory is None else f"{outcome.host.core_memory:,}"
        ),
    })  # fmt: skip
    yield host


DETAILS: Mapping[str, Callable[[_Outcomes], Iterator[Table]]] = {
    "performance": performance_tables,
    "compatibility": compatibility_tables,
    "security": security_tables,
    "resources": resources_tables,
}
"""The tables behind each row, by its name."""
