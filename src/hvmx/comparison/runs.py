"""One run of a comparison: a guest in one way under one profile, from a description that any process can carry out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hvmx import guests
from hvmx.boot import ImageError
from hvmx.cost import Mark, Profile
from hvmx.hvm import controls
from hvmx.hvm.console import null_sink
from hvmx.hvm.device import Sink
from hvmx.machine import Machine
from hvmx.stops import Stop, StopKind

from .compatibility import uses_of
from .explained import explained, windows_of
from .interface import interface_of
from .ledger import Reading
from .outcome import TOTALS, Operation, Outcome
from .over_time import OverTime, run_in_slices
from .resources import host_of, resources_of
from .ways import Way

BUNDLED = "bundled"

GOOD_ENDS = (StopKind.POWEROFF, StopKind.HALTED)


class GuestFailed(RuntimeError):
    """The guest did not end as it should; the message has its console output."""


class NotThisWay(RuntimeError):
    """The guest cannot run so; the message says why."""


class WorkerFailed(RuntimeError):
    """Who was to carry out a run could not, or is gone; the message says why."""


@dataclass(frozen=True)
class Guest:
    """What runs: the bundled guest, or an image of the user's own."""

    image: Path | None = None
    initrd: Path | None = None
    append: str = ""
    """What its command line has; of the bundled guest besides the workloads."""
    workloads: tuple[str, ...] = ()
    """Of the bundled guest: these only, or all."""
    label: str | None = None
    """What it is called where its file's name does not tell it from another."""

    @property
    def name(self) -> str:
        return self.label or (BUNDLED if self.image is None else self.image.name)


@dataclass(frozen=True)
class Run:
    """All that a run depends on."""

    guest: Guest
    way: Way
    profile: Profile
    memory: int
    """Bytes of guest memory."""
    cycles: int | None = None
    """Guest cycles after which the run ends."""
    timeout: float | None = None
    """Seconds of host time after which it ends."""
    explain: bool = False
    """Whether to find out where the cycles of each operation went."""
    timeline: bool = False
    """Whether to keep what happened when."""


def carry_out(run: Run) -> Outcome:
    """Run the guest to its end, or to the limits.

    Raises ``NotThisWay`` where it cannot run so, ``GuestFailed`` where it does not end as it should, ``FileNotFoundError``
    where the package was built without guests, ``MemoryError`` where the host has too little memory.
    """
    profile, way = run.profile, run.way
    console = bytearray()
    machine = machine_for(run.guest, way, profile, console.extend, run.memory)
    if run.timeline:
        machine.cpu.keep_timeline()
    started = time.perf_counter()
    stop, over_time = run_in_slices(machine, run.cycles, run.timeout)
    host = host_of(machine, time.perf_counter() - started)
    text = console.decode(errors="replace")
    end = checked_end(run, stop, text)
    operations = _operations(text, profile, way)
    if run.explain and run.guest.image is None:
        again = machine_for(run.guest, way, profile, null_sink, run.memory)
        operations = explained(windows_of(machine, way), again, profile, way, operations)
    counts = machine.statistics()
    # The handlers are the hardware's own work where there is no hypervisor.
    counts["exits"] = 0 if way.native else machine.exits.total
    return Outcome(
        guest=run.guest.name,
        profile=profile.name,
        way=way.name,
        end=end,
        totals={name: int(counts[name]) for name in TOTALS},
        ledger=tuple(Reading.of(machine).items(profile, way)),
        operations=operations,
        exits={} if way.native else machine.exits.statistics(),
        exits_over_time=OverTime(over_time.slice_cycles, {}) if way.native else over_time,
        hypercalls=machine.hypercall_statistics(),
        uses=uses_of(machine, way),
        interface=interface_of(machine, way),
        resources=resources_of(machine),
        caches=machine.cpu.cache_hits(),
        host=host,
        timeline=machine.cpu.timeline() if run.timeline else None,
    )


def empty_machine(way: Way, profile: Profile, memory: str | int, serial: Sink = null_sink) -> Machine:
    """A machine for a guest that is run this way."""
    machine = Machine(memory, profile, paging=way.paging, serial=serial)
    if way.native:
        controls.leave_paging_to_the_guest(machine.cpu)
        profile.apply(machine.cpu, native=True)
    return machine


def machine_for(guest: Guest, way: Way, profile: Profile, serial: Sink, memory: str | int = "64M") -> Machine:
    """A machine with the guest loaded, as this way runs it."""
    machine = empty_machine(way, profile, memory, serial)
    if guest.image is None:
        command_line = guests.command_line(guest.workloads, guest.append)
        machine.load(guests.image(way.bundled), pv=way.pv, append=command_line)
        return machine
    try:
        machine.load(guest.image, pv=way.pv, append=guest.append, initrd=guest.initrd)
    except ImageError as problem:
        raise NotThisWay(str(problem)) from problem
    return machine


def checked_end(run: Run, stop: Stop, console: str) -> str:
    """How the run ended, in words. Raises ``GuestFailed`` unless it is a good end, or the limit that was set."""
    why = stop.reason or stop.kind.value
    if stop.kind is StopKind.CYCLES and run.cycles is not None:
        return why
    if stop.kind not in GOOD_ENDS or (run.guest.image is None and " 0 checks failed" not in console):
        name = guests.image_name(run.way.bundled) if run.guest.image is None else run.guest.name
        raise GuestFailed(f"{name} did not come to its end: {why}\n{console}")
    return why


def _operations(console: str, profile: Profile, way: Way) -> Mapping[str, Operation]:
    """What the guest timed and the way has figures for."""
    return {
        name: Operation(name, bench.operations, bench.cycles)
        for name, bench in guests.parse_benches(console).items()
        if not way.native or knows_ports(profile) or not guests.WORKLOADS[name].ports
    }


def knows_ports(profile: Profile) -> bool:
    """Whether the profile has a source for what a port takes natively: an assumption is of the instruction alone."""
    return profile.instructions["io"].mark is not Mark.ASSUMED
