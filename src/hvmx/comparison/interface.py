"""What of the host a guest could reach, and did: the hypervisor's attack surface, asked of the machine that it ran on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from hvmx.boot.layout import PAGE
from hvmx.code_lines import CodeLines, code_lines
from hvmx.exits import OTHERS, detail_name
from hvmx.hvm.device import Device
from hvmx.unanswered import unanswered
from hvmx.vocabulary import CONTROLLED, PV_REASONS, Charge, ExitReason

if TYPE_CHECKING:
    from hvmx.machine import Machine

    from .ways import Way

_SHARED = ("hvmx.exits", "hvmx.hvm.board", "hvmx.hvm.bus", Device.__module__)
"""Modules by way of which a device is reached."""
_CORE = "src/hvmx/core"
_EMULATION = "cext/xen/emulate.c"
_HYPERVISOR_OF_DOMAINS = ("cext/xen", "cext/hypercall")
_OF_VMCALL_ALONE = "cext/hypercall/kvm.c"

MSR_RANGES = (range(0x2000), range(0xC0000000, 0xC0002000))
"""Those that an MSR bitmap is of (SDM vol. 3, 24.6.9); there are none outside."""


class Kind(Enum):
    """Ways into the hypervisor, in the order in which reports have them."""

    HYPERCALLS = "hypercalls"
    EXITS = "exits and traps"
    PORTS = "ports"
    MMIO = "MMIO regions"
    MSRS = "MSRs"


@dataclass(frozen=True)
class Service:
    """Something that answers the guest: a hypercall, a handler of an exit, a device."""

    kind: Kind
    name: str
    numbers: int
    """How many hypercalls, reasons, ports, regions or MSRs it answers."""
    used: int
    """Of these, how many the guest used."""
    requests: int
    """How often."""
    file: str | None
    """Where its code is, from the root of the source tree; None where that is the core's, or a user's own."""

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "kind": self.kind.value}


@dataclass(frozen=True)
class Interface:
    """All that answered the guest of one run."""

    services: tuple[Service, ...] = ()
    refused: Mapping[str, int] = field(default_factory=dict)
    """Requests that were answered by an error or by nobody, by what they were for."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """Of code, by file: of the services' files."""
    shared_lines: int = 0
    """Of code by way of which these are reached."""
    core_lines: int = 0
    """Of the core, which every guest runs on: decoder, memory, exits."""

    def of(self, kind: Kind) -> list[Service]:
        return [service for service in self.services if service.kind is kind]

    def reachable(self, kind: Kind) -> int:
        return sum(service.numbers for service in self.of(kind))

    def reached(self, kind: Kind) -> int:
        return sum(service.used for service in self.of(kind))

    @property
    def reachable_lines(self) -> int:
        """Of code behind all that the guest could reach."""
        return sum(self.lines.values())

    @property
    def reached_lines(self) -> int:
        """The same of what it did reach: of each file that answered it, all lines."""
        files = {service.file for service in self.services if service.requests}
        return sum(lines for file, lines in self.lines.items() if file in files)

    @property
    def refusals(self) -> int:
        return sum(self.refused.values())

    def as_json(self) -> dict[str, Any]:
        return {
            "services": [service.as_json() for service in self.services],
            "reachable": {kind.value: self.reachable(kind) for kind in Kind},
            "reached": {kind.value: self.reached(kind) for kind in Kind},
            "refused": dict(self.refused),
            "lines": dict(self.lines),
            "reachable_lines": self.reachable_lines,
            "reached_lines": self.reached_lines,
            "shared_lines": self.shared_lines,
            "core_lines": self.core_lines,
        }


def interface_of(machine: Machine, way: Way) -> Interface:
    """What there was for this machine's guest, and what of it the guest used: nothing without a hypervisor."""
    if way.native:
        return Interface()
    counted = code_lines()
    services = tuple(_services(machine, counted))
    files = {service.file for service in services if service.file is not None}
    shared = {file for module in _SHARED if (file := counted.of_module(module)) is not None}
    if machine.domain is not None:  # its hypercalls go through the rest of the hypervisor
        shared |= {file for folder in _HYPERVISOR_OF_DOMAINS for file in counted.below(folder)} - {_OF_VMCALL_ALONE}
    return Interface(
        services=services,
        refused=_refused(machine),
        lines={file: counted.lines[file] for file in sorted(files)},
        shared_lines=sum(counted.lines[file] for file in shared - files),
        core_lines=sum(counted.below(_CORE).values()),
    )


def _services(machine: Machine, counted: CodeLines) -> Iterator[Service]:
    yield from _hypercalls(machine, counted)
    yield from _exits(machine, counted)
    yield from _traps(machine)
    yield from _ports(machine, counted)
    yield from _mmio(machine, counted)
    yield from _msrs(machine, counted)


def _hypercalls(machine: Machine, counted: CodeLines) -> Iterator[Service]:
    counts = machine.hypercall_statistics()
    for name in machine.hypercalls.answered().values():
        requests = counts[name].count if name in counts else 0
        yield Service(Kind.HYPERCALLS, name, 1, min(requests, 1), requests, counted.hypercalls.get(name))


def reasons_that_occur(machine: Machine) -> list[ExitReason]:
    """Those that the controls in force, the bitmaps and the masks let a guest's exits have."""
    cpu = machine.cpu
    controlled = {reason: False for reasons in CONTROLLED.values() for reason in reasons}
    for control, reasons in CONTROLLED.items():
        if cpu.controls & control:
            controlled.update(dict.fromkeys(reasons, True))
    otherwise = {
        ExitReason.EXCEPTION_NMI: bool(cpu.exception_bitmap),
        ExitReason.CR_ACCESS: bool(cpu.cr0_mask | cpu.cr4_mask),
        ExitReason.IO_INSTRUCTION: bool(cpu.io_bitmap.any()),
        ExitReason.MSR_READ: bool(cpu.msr_bitmap[:0x800].any()),
        ExitReason.MSR_WRITE: bool(cpu.msr_bitmap[0x800:].any()),
    }
    return [
        reason
        for reason in ExitReason
        if (controlled.get(reason) or otherwise.get(reason, reason not in controlled))
        and (machine.domain is None or reason in PV_REASONS)
    ]


def _exits(machine: Machine, counted: CodeLines) -> Iterator[Service]:
    statistics = machine.exits.statistics()
    for reason in reasons_that_occur(machine):
        requests = statistics[reason].count if reason in statistics else 0
        file = _file_of_handler(machine, reason, counted)
        yield Service(Kind.EXITS, reason.name, 1, min(requests, 1), requests, file)


_TRAPS = {
    "exceptions": (Charge.BOUNCED_EXCEPTION, "cext/xen/traps.c"),
    "system calls": (Charge.BOUNCED_CALL, "cext/xen/bounce.c"),
    "privileged instructions": (Charge.EMULATION, _EMULATION),
}
"""What of a domain the hypervisor gets without an exit to a handler: how that is charged, and what answers it."""


def _traps(machine: Machine) -> Iterator[Service]:
    if machine.domain is not None:
        charges = machine.cpu.charges()
        for name, (charge, file) in _TRAPS.items():
            requests, _ = charges[charge]
            yield Service(Kind.EXITS, name, 1, min(requests, 1), requests, file)


def _ports(machine: Machine, counted: CodeLines) -> Iterator[Service]:
    """Of a domain, those of a dom0: any other reads all ones, by the emulation of the instruction."""
    if machine.board is None or (machine.domain is not None and not machine.domain.privileged):
        return
    used = _numbers(machine, ExitReason.IO_INSTRUCTION)
    for region in machine.board.ports.regions:
        here = [count for port, count in used.items() if region.base <= port < region.base + region.length]
        file = _file(counted, type(region.device).__module__)
        yield Service(Kind.PORTS, region.name, region.length, len(here), sum(here), file)


def _mmio(machine: Machine, counted: CodeLines) -> Iterator[Service]:
    """A domain has no MMIO. Accesses are counted by page."""
    if machine.board is None or machine.domain is not None:
        return
    used = _numbers(machine, ExitReason.EPT_MISCONFIG)
    for region in machine.board.mmio.regions:
        first, last = region.base & ~(PAGE - 1), region.base + region.length - 1
        requests = sum(count for page, count in used.items() if first <= page <= last)
        file = _file(counted, type(region.device).__module__)
        yield Service(Kind.MMIO, region.name, 1, min(requests, 1), requests, file)


def _msrs(machine: Machine, counted: CodeLines) -> Iterator[Service]:
    """Those that the hypervisor answers: of an HVM guest the ones that exit, of a domain the ones that it emulates."""
    numbers = [number for numbers in MSR_RANGES for number in numbers]
    if machine.domain is not None:
        domain = machine.domain.xen
        answered = [number for number in numbers if domain.has_msr(number)]
        used = domain.msr_counts()
        file: str | None = _EMULATION
    else:
        answered = [number for number in numbers if machine.cpu.has_msr(number) and _exits_for(machine, number)]
        reads, writes = (_numbers(machine, reason) for reason in (ExitReason.MSR_READ, ExitReason.MSR_WRITE))
        used = {number: reads.get(number, 0) + writes.get(number, 0) for number in {**reads, **writes}}
        file = _file_of_handler(machine, ExitReason.MSR_READ, counted)
    for number in answered:
        requests = used.get(number, 0)
        yield Service(Kind.MSRS, detail_name(ExitReason.MSR_READ, number), 1, min(requests, 1), requests, file)


def _exits_for(machine: Machine, msr: int) -> bool:
    place = (0x400 * 8 if msr in MSR_RANGES[1] else 0) + (msr & 0x1FFF)
    return any(machine.cpu.msr_bitmap[bit >> 3] >> (bit & 7) & 1 for bit in (place, place + 0x800 * 8))


def _numbers(machine: Machine, reason: ExitReason) -> dict[int, int]:
    """The exits of a reason by what they concern, as far as that is known: of very many the last are counted together."""
    row = machine.exits.statistics().get(reason)
    return {} if row is None else {number: one.count for number, one in row.detail.items() if number != OTHERS}


def _file_of_handler(machine: Machine, reason: ExitReason, counted: CodeLines) -> str | None:
    handler = machine.cpu.handler(reason)
    return _file(counted, getattr(handler, "__module__", None) or type(handler).__module__)


def _file(counted: CodeLines, module: str) -> str | None:
    file = counted.of_module(module)
    return None if file is None or file.startswith(f"{_CORE}/") else file


_NOT_THERE = {
    "msrs": "MSRs that there are not", "ports": "ports without a device", "mmio": "addresses without a device",
}  # fmt: skip
"""How the report calls what is `unanswered`."""


def _refused(machine: Machine) -> dict[str, int]:
    refused = {"hypercalls": machine.hypercalls.refused}
    if machine.domain is not None:
        refused["privileged instructions"] = machine.domain.xen.refused_instructions
    for what, counts in unanswered(machine).items():
        refused[_NOT_THERE[what]] = sum(count["reads"] + count["writes"] for count in counts.values())
    return refused
