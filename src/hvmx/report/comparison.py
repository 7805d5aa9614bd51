"""The comparison: the bundled guest as HVM with nested paging, as HVM with shadow paging, and as PV."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from hvmx import guests
from hvmx.cost import Profile, marks_in_words
from hvmx.machine import Machine, StopKind
from hvmx.report.caches import NOT_MODELLED, PLACES
from hvmx.report.plain_table import plain_table


@dataclass(frozen=True)
class Way:
    """A way of running the guest."""

    name: str
    title: str
    guest: str
    paging: str
    pv: bool


WAYS = (
    Way("ept", "HVM, nested paging", "hvm64", "ept", False),
    Way("shadow", "HVM, shadow paging", "hvm64", "shadow", False),
    Way("pv", "PV", "pv64", "ept", True),
)

TOTALS = ("guest_cycles", "exits", "hypercalls", "mispredictions", "tlb_misses", "walk_references")
"""Counts of the whole run, from the first instruction on, that are compared besides the operations."""

GOOD_ENDS = (StopKind.POWEROFF, StopKind.HALTED)


class GuestFailed(RuntimeError):
    """The guest did not end as it should; the message has its console output."""


@dataclass(frozen=True)
class WayResult:
    """The results of one way."""

    cycles: Mapping[str, float]
    """Guest cycles per operation by workload; those that the way does not allow are absent."""
    totals: Mapping[str, int]
    """By the names of ``TOTALS``."""
    caches: Mapping[str, int] | None
    """Where accesses to data found their lines, as ``Vcpu.cache_hits`` has it."""


def run_way(
    way: Way,
    profile: Profile,
    memory: str | int = "64M",
    workloads: Collection[str] = (),
    cycles: int | None = None,
) -> WayResult:
    """Run the bundled guest with all workloads, or those given, for at most ``cycles`` guest cycles.

    Raises ``GuestFailed`` unless it then ends as it should.
    """
    console = bytearray()
    machine = Machine(memory, profile, paging=way.paging, serial=console.extend)
    machine.load(guests.image(way.guest), pv=way.pv, append=guests.command_line(workloads))
    stop = machine.run(cycles=cycles)
    text = console.decode(errors="replace")
    if stop.kind not in GOOD_ENDS or " 0 checks failed" not in text:
        why = stop.reason or stop.kind.value
        raise GuestFailed(
            f"{way.title}: the bundled guest {guests.image_name(way.guest)} failed: {why}\n{text}"
        )
    counters = machine.statistics()
    return WayResult(
        cycles={name: bench.cycles_per_operation for name, bench in guests.parse_benches(text).items()},
        totals={name: machine.exits.total if name == "exits" else int(counters[name]) for name in TOTALS},
        caches=machine.cpu.cache_hits(),
    )


def compare(
    profile: Profile, memory: str | int = "64M", workloads: Collection[str] = ()
) -> dict[str, WayResult]:
    """All ways, by name."""
    return {way.name: run_way(way, profile, memory, workloads) for way in WAYS}


def ratios(results: Mapping[str, WayResult], workload: str) -> dict[str, float]:
    """The guest cycles of an operation, by way, as multiples of those of the cheapest way."""
    cycles = {name: result.cycles[workload] for name, result in results.items() if workload in result.cycles}
    least = min(cycles.values(), default=0.0)
    return {name: value / least if least else 1.0 for name, value in cycles.items()}


def comparison_table(profile: Profile, results: Mapping[str, WayResult]) -> Table:
    """A row for each operation, a column for each way: guest cycles, and multiples of the cheapest."""
    table = plain_table(
        f"Guest cycles per operation, {profile.name} ({profile.processor})",
        provenance(profile) if profile.caches.modelled else f"{provenance(profile)}\n{NOT_MODELLED.capitalize()}.",
    )
    table.add_column("Operation", no_wrap=True)
    for way in WAYS:
        table.add_column(way.title.replace(" ", "\n"), justify="right", no_wrap=True)
        table.add_column("", justify="right", no_wrap=True)
    for workload in guests.WORKLOADS:
        by_way = ratios(results, workload)
        if not by_way:
            continue
        cells = []
        for name, result in results.items():
            if name in by_way:
                style = "[bold]" if by_way[name] == 1 else ""
                cells += [f"{style}{result.cycles[workload]:,.0f}", f"{style}x {_factor(by_way[name])}"]
            else:
                cells += ["-", ""]
        table.add_row(workload, *cells)
    table.add_row("whole run:", style="dim")
    for total in TOTALS:
        cells = []
        for result in results.values():
            cells += [f"{result.totals[total]:,}", ""]
        table.add_row(f"  {total.replace('_', ' ')}", *cells, style="dim")
    for place, title in PLACES.items():
        if any(result.caches for result in results.values()):
            cells = []
            for result in results.values():
                cells += [f"{result.caches[place]:,}" if result.caches else "-", ""]
            table.add_row(f"  data found in {title}", *cells, style="dim")
    return table


def provenance(profile: Profile) -> str:
    """How many of the profile's figures, and of those for PV only, were published, fitted or assumed."""
    everything, pv = profile.marks(), profile.marks("paravirtual.")
    return (
        f"{profile.accuracy[0].upper()}{profile.accuracy[1:]}.\n"
        f"The profile's {sum(everything.values())} figures: {marks_in_words(everything)}.\n"
        f"PV's own {sum(pv.values())} ({', '.join(vars(profile.paravirtual))}): {marks_in_words(pv)}."
    )


def _factor(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 1000 else f"{ratio:,.0f}"


def comparison_json(profile: Profile, results: Mapping[str, WayResult]) -> dict[str, Any]:
    """The same as data."""
    operations = {
        workload: {
            name: {"guest_cycles": results[name].cycles[workload], "ratio": ratio}
            for name, ratio in ratios(results, workload).items()
        }
        for workload in guests.WORKLOADS
        if any(workload in result.cycles for result in results.values())
    }
    return {
        "profile": profile.name,
        "accuracy": profile.accuracy,
        "figures": {mark.value: count for mark, count in profile.marks().items()},
        "pv_figures": {mark.value: count for mark, count in profile.marks("paravirtual.").items()},
        "operations": operations,
        "totals": {name: dict(result.totals) for name, result in results.items()},
        "caches": {name: result.caches and dict(result.caches) for name, result in results.items()},
    }
