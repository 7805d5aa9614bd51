"""The comparison: the bundled guest as HVM with nested paging, as HVM with shadow paging, as PV, and without a hypervisor."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from hvmx import guests
from hvmx.cost import Mark, Profile, marks_in_words
from hvmx.hvm import controls
from hvmx.hvm.device import Sink
from hvmx.machine import Machine, StopKind
from hvmx.report.caches import NOT_MODELLED, PLACES
from hvmx.report.plain_table import plain_table
from hvmx.report.ways import WAYS, Way

TOTALS = ("guest_cycles", "exits", "hypercalls", "mispredictions", "tlb_misses", "walk_references")
"""Counts of the whole run, from the first instruction on, that are compared besides the operations."""

GOOD_ENDS = (StopKind.POWEROFF, StopKind.HALTED)


class GuestFailed(RuntimeError):
    """The guest did not end as it should; the message has its console output."""


@dataclass(frozen=True)
class WayResult:
    """The results of one way."""

    cycles: Mapping[str, float]
    """Guest cycles per operation by workload; those are absent that the way does not allow, or has no figure for."""
    totals: Mapping[str, int]
    """By the names of ``TOTALS``."""
    caches: Mapping[str, int] | None
    """Where accesses to data found their lines, as ``Vcpu.cache_hits`` has it."""


def machine_for(
    way: Way, profile: Profile, command_line: str, serial: Sink, memory: str | int = "64M"
) -> Machine:
    """A machine with the bundled guest loaded, as this way runs it."""
    machine = Machine(memory, profile, paging=way.paging, serial=serial)
    if way.native:
        controls.leave_paging_to_the_guest(machine.cpu)
        profile.apply(machine.cpu, native=True)
    machine.load(guests.image(way.guest), pv=way.pv, append=command_line)
    return machine


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
    machine = machine_for(way, profile, guests.command_line(workloads), console.extend, memory)
    stop = machine.run(cycles=cycles)
    text = console.decode(errors="replace")
    if stop.kind not in GOOD_ENDS or " 0 checks failed" not in text:
        why = stop.reason or stop.kind.value
        raise GuestFailed(
            f"{way.title}: the bundled guest {guests.image_name(way.guest)} failed: {why}\n{text}"
        )
    # The handlers are the hardware's own work where there is no hypervisor.
    counts = {**machine.statistics(), "exits": 0 if way.native else machine.exits.total}
    return WayResult(
        cycles={
            name: bench.cycles_per_operation
            for name, bench in guests.parse_benches(text).items()
            if not way.native or knows_ports(profile) or not guests.WORKLOADS[name].ports
        },
        totals={name: int(counts[name]) for name in TOTALS},
        caches=machine.cpu.cache_hits(),
    )


def knows_ports(profile: Profile) -> bool:
    """Whether the profile has a source for what a port takes natively: an assumption is of the instruction alone."""
    return profile.instructions["io"].mark is not Mark.ASSUMED


def compare(
    profile: Profile, memory: str | int = "64M", workloads: Collection[str] = (), ways: Sequence[Way] = WAYS
) -> dict[str, WayResult]:
    """These ways, by name."""
    return {way.name: run_way(way, profile, memory, workloads) for way in ways}


def ratios(results: Mapping[str, WayResult], workload: str) -> dict[str, float]:
    """The guest cycles of an operation, by way, as multiples of those of the cheapest way."""
    cycles = {name: result.cycles[workload] for name, result in results.items() if workload in result.cycles}
    least = min(cycles.values(), default=0.0)
    return {name: value / least if least else 1.0 for name, value in cycles.items()}


def comparison_table(profile: Profile, results: Mapping[str, WayResult]) -> Table:
    """A row for each operation, a column for each way: guest cycles, and multiples of the cheapest."""
    table = plain_table(
        f"Guest cycles per operation, {profile.name} ({profile.processor})", "\n".join(notes(profile, results))
    )
    table.add_column("Operation", no_wrap=True)
    for way in WAYS:
        if way.name in results:
            table.add_column(way.title.replace(" ", "\n"), justify="right", no_wrap=True)
    by_workload = {name: ratios(results, name) for name in guests.WORKLOADS}
    for name, by_way in by_workload.items():
        if by_way:
            table.add_row(name, *(_cell(way, name, results, by_workload) for way in results))
    table.add_row("whole run:", style="dim")
    for total in TOTALS:
        cells = (f"{result.totals[total]:,}" for result in results.values())
        table.add_row(f"  {total.replace('_', ' ')}", *cells, style="dim")
    for place, title in PLACES.items():
        if any(result.caches for result in results.values()):
            cells = (f"{result.caches[place]:,}" if result.caches else "-" for result in results.values())
            table.add_row(f"  data in {title}", *cells, style="dim")
    return table


def _cell(
    way: str, workload: str, results: Mapping[str, WayResult], by_workload: Mapping[str, Mapping[str, float]]
) -> Text:
    """Guest cycles and their ratio, which is as wide as the widest of its column: so the figures stand in columns, too."""
    width = max((len(_factor(by_way[way])) for by_way in by_workload.values() if way in by_way), default=0)
    if way not in by_workload[workload]:
        return Text("-" + " " * (width + 3))
    ratio = by_workload[workload][way]
    cycles = results[way].cycles[workload]
    return Text(f"{cycles:,.0f} {'x ' + _factor(ratio):>{width + 2}}", style="bold" if ratio == 1 else "")


def notes(profile: Profile, results: Mapping[str, WayResult]) -> list[str]:
    """What is to be known of the figures: how near they are, how many of them were published, fitted or assumed."""
    everything, pv = profile.marks(), profile.marks("paravirtual.")
    said = [
        f"{profile.accuracy[0].upper()}{profile.accuracy[1:]}.",
        f"The profile's {sum(everything.values())} figures: {marks_in_words(everything)}.",
    ]
    if "pv" in results:
        said.append(f"PV's own {sum(pv.values())} ({', '.join(vars(profile.paravirtual))}): {marks_in_words(pv)}.")
    if "native" in results:
        said += ["Native: no exits, and page walks of one dimension.", _note_on_ports(profile)]
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


def _factor(ratio: float) -> str:
    """With three digits, or all of them before the point."""
    return f"{ratio:.2f}" if ratio < 9.995 else f"{ratio:.1f}" if ratio < 99.95 else f"{ratio:,.0f}"


def comparison_csv(results: Mapping[str, WayResult]) -> str:
    """A line for each operation and each count of the whole run, a column for each way; empty where the way has none."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(["figure", "unit", *results])
    for workload in guests.WORKLOADS:
        if any(workload in result.cycles for result in results.values()):
            cycles = (result.cycles.get(workload, "") for result in results.values())
            lines.writerow([workload, "guest cycles per operation", *cycles])
    for total in TOTALS:
        unit = "guest cycles" if total == "guest_cycles" else "count"
        lines.writerow([f"whole run: {total}", unit, *(result.totals[total] for result in results.values())])
    return out.getvalue()


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
        "notes": notes(profile, results),
        "operations": operations,
        "totals": {name: dict(result.totals) for name, result in results.items()},
        "caches": {name: result.caches and dict(result.caches) for name, result in results.items()},
    }
