"""The exits of a run as a table, in the columns of ``perf kvm stat``."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from hvmx.exits import ExitReason, ExitStatistic, detail_name

DETAILS_SHOWN = 6
"""Ports, MSRs or pages that are shown of a reason: the most frequent."""


def exit_table(statistics: Mapping[ExitReason, ExitStatistic]) -> Table:
    """By reason, the most frequent first, and below it by vector, register, port, MSR or page."""
    samples = sum(row.count for row in statistics.values())
    cycles = sum(row.guest_cycles for row in statistics.values())
    table = Table(title="Exits", title_justify="left", box=None, pad_edge=False)
    table.add_column("VM-EXIT", no_wrap=True)
    for name in (
        "Samples", "Samples%", "Guest cycles", "Cycles%", "Min cycles", "Max cycles", "Avg cycles",
        "Host time", "Min host", "Max host", "Avg host",
    ):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    for reason, row in statistics.items():
        table.add_row(reason.name, *_cells(row, samples, cycles))
        details = sorted(row.detail.items(), key=lambda item: (-item[1].count, item[0]))
        for number, detail in details[:DETAILS_SHOWN]:
            table.add_row(f"  {detail_name(reason, number)}", *_cells(detail, samples, cycles), style="dim")
        if len(details) > DETAILS_SHOWN:
            table.add_row(f"  and {len(details) - DETAILS_SHOWN:,} more", style="dim")
    host_ns = sum(row.host_ns for row in statistics.values())
    table.add_row("all", f"{samples:,}", "", f"{cycles:,}", "", "", "", "", _host(host_ns), "", "", "")
    return table


def _cells(row: ExitStatistic, samples: int, cycles: int) -> tuple[str, ...]:
    return (
        f"{row.count:,}",
        _percent(row.count, samples),
        f"{row.guest_cycles:,}",
        _percent(row.guest_cycles, cycles),
        f"{row.guest_cycles_min:,}",
        f"{row.guest_cycles_max:,}",
        f"{row.guest_cycles_average:,.1f}",
        _host(row.host_ns),
        _host(row.host_ns_min),
        _host(row.host_ns_max),
        _host(row.host_ns_average),
    )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}%" if whole else "-"


def _host(nanoseconds: float) -> str:
    """Host time in the unit that leaves a readable number."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.2f} {unit}"
    return f"{nanoseconds:.0f} ns"
