"""Exits: their reasons, the handler of each, and their statistics."""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from hvmx.nocopies import NoCopies

if TYPE_CHECKING:
    from hvmx.core.exit import Exit
    from hvmx.core.vcpu import Vcpu

    Handler = Callable[[Vcpu, Exit], None]


class ExitReason(IntEnum):
    """Basic exit reasons (Intel SDM vol. 3, appendix C) that hvmx takes; the names are Linux's, as perf prints them."""

    EXCEPTION_NMI = 0
    EXTERNAL_INTERRUPT = 1
    TRIPLE_FAULT = 2
    INTERRUPT_WINDOW = 7
    TASK_SWITCH = 9
    CPUID = 10
    HLT = 12
    INVD = 13
    INVLPG = 14
    RDPMC = 15
    RDTSC = 16
    VMCALL = 18
    CR_ACCESS = 28
    DR_ACCESS = 29
    IO_INSTRUCTION = 30
    MSR_READ = 31
    MSR_WRITE = 32
    PAUSE_INSTRUCTION = 40
    GDTR_IDTR = 46
    LDTR_TR = 47
    EPT_VIOLATION = 48
    EPT_MISCONFIG = 49
    RDTSCP = 51
    WBINVD = 54
    XSETBV = 55
    RDRAND = 57
    RDSEED = 61


_DETAILS = {
    ExitReason.EXCEPTION_NMI: "vector",
    ExitReason.CR_ACCESS: "CR",
    ExitReason.DR_ACCESS: "DR",
    ExitReason.IO_INSTRUCTION: "port",
    ExitReason.MSR_READ: "MSR",
    ExitReason.MSR_WRITE: "MSR",
    ExitReason.EPT_VIOLATION: "page",
    ExitReason.EPT_MISCONFIG: "page",
}

_REASONS = frozenset(ExitReason)

OTHERS = -1
"""The number under which exits are counted when too many numbers have been seen."""


def detail_name(reason: int, number: int) -> str:
    """What the number of an exit is: ``port 0x3f8``, ``MSR 0xc0000080``, ...; empty where it is nothing."""
    kind = _DETAILS.get(ExitReason(reason))
    if kind is None:
        return ""
    return "others" if number == OTHERS else f"{kind} {number:#x}"


def exit_name(reason: int, number: int) -> str:
    """An exit in words: its reason and what it concerns."""
    return f"{ExitReason(reason).name} {detail_name(reason, number)}".rstrip()


@dataclass(frozen=True)
class ExitStatistic:
    """What one exit reason came to. Guest cycles are the model's; host time is what handling took on this host."""

    count: int
    guest_cycles: int
    guest_cycles_min: int
    guest_cycles_max: int
    host_ns: int
    host_ns_min: int
    host_ns_max: int
    detail: Mapping[int, ExitStatistic] = field(default_factory=dict)
    """The same by vector, register, port, MSR or guest-physical page, for the reasons that have one; the last
    exits of a guest that touches very many are under ``OTHERS``."""

    @property
    def guest_cycles_average(self) -> float:
        return self.guest_cycles / self.count

    @property
    def host_ns_average(self) -> float:
        return self.host_ns / self.count

    def as_json(self, reason: int) -> dict[str, Any]:
        """The figures by name, and below ``detail`` the same of each of its ports, MSRs, ..."""
        figures = dict(vars(self))
        del figures["detail"]
        if self.detail:
            rows = sorted(self.detail.items())
            figures["detail"] = {detail_name(reason, number): row.as_json(reason) for number, row in rows}
        return figures


class _Ranges:
    """A handler that hands each exit to that of the range of ports or addresses it is in, or else to ``rest``."""

    def __init__(self, place: Callable[[Exit], int], rest: Handler) -> None:
        self._place = place
        self.rest = rest
        self._firsts: list[int] = []
        self._ranges: list[tuple[int, Handler]] = []  # where each ends, exclusive

    def add(self, first: int, length: int, handler: Handler, space: int) -> None:
        _check(handler)
        if first < 0 or length <= 0 or first + length > space:
            raise ValueError(f"{length:#x} from {first:#x} on is no range within 0x0 to {space - 1:#x}")
        index = bisect_right(self._firsts, first)
        below = index > 0 and self._ranges[index - 1][0] > first
        above = index < len(self._firsts) and self._firsts[index] < first + length
        if below or above:
            raise ValueError(f"{first:#x} to {first + length - 1:#x}: a part of it has a handler already")
        self._firsts.insert(index, first)
        self._ranges.insert(index, (first + length, handler))

    def remove(self, first: int, length: int) -> None:
        index = bisect_right(self._firsts, first) - 1
        if index < 0 or (self._firsts[index], self._ranges[index][0]) != (first, first + length):
            raise ValueError(f"{first:#x} to {first + length - 1:#x}: no range that was given a handler")
        del self._firsts[index], self._ranges[index]

    def __call__(self, vcpu: Vcpu, exit: Exit) -> None:
        place = self._place(exit)
        index = bisect_right(self._firsts, place) - 1
        if index >= 0 and place < self._ranges[index][0]:
            self._ranges[index][1](vcpu, exit)
        else:
            self.rest(vcpu, exit)


def _check(handler: Handler) -> None:
    if not callable(handler):
        raise TypeError(f"a handler is called with (vcpu, exit), and {handler!r} cannot be")


class Exits(NoCopies):
    """The table of handlers: a Python callable `handler(vcpu, exit)` per exit reason, port range and address range.

    Which operations exit is up to the processor's controls, as in a VMCS: `vcpu.controls` (bits in
    `hvmx.hvm.controls`), `exception_bitmap`, `io_bitmap`, `msr_bitmap`, `cr0_mask` and `cr4_mask`.
    """

    def __init__(self, vcpu: Vcpu) -> None:
        self._vcpu = vcpu
        self._ranges: dict[int, _Ranges] = {}

    def on(self, reason: int, handler: Handler) -> Handler | None:
        """Let `handler(vcpu, exit)` take this exit reason; returns the handler that did so before.

        When it returns, the instruction is complete, unless it moved `vcpu.rip` or injected an exception. What it
        raises comes out of `run()`, with the guest as it was before the instruction. Ranges of ports and addresses
        keep their handlers. ValueError for a reason that is no `ExitReason`, TypeError for what cannot be called.
        """
        _check(handler)
        if operator.index(reason) not in _REASONS:
            raise ValueError(f"no exit reason {reason:#x}: they are those of ExitReason")
        ranges = self._ranges.get(reason)
        if ranges is not None:
            self._vcpu.set_handler(reason, ranges)  # refuses while another thread runs it
            before, ranges.rest = ranges.rest, handler
            return before
        previous = self._vcpu.handler(reason)
        self._vcpu.set_handler(reason, handler)
        return previous

    def on_ports(self, first: int, count: int, handler: Handler) -> None:
        """Let `handler(vcpu, exit)` take the port I/O that starts at one of `count` ports from `first` on.

        It finds `exit.port`, `exit.width` in bytes and `exit.is_in`, takes what the guest writes from `exit.value`
        and sets that to what the guest reads. ValueError where there is no such port, or it has a handler.
        """
        self._in_front(ExitReason.IO_INSTRUCTION, lambda exit: exit.port).add(first, count, handler, 1 << 16)

    def on_mmio(self, address: int, length: int, handler: Handler) -> None:
        """Let `handler(vcpu, exit)` take accesses that start in `length` bytes from a guest-physical address on.

        As `on_ports`, with `exit.guest_physical` and `exit.is_write`. RAM there gives way, in whole pages, for good.
        """
        ranges = self._in_front(ExitReason.EPT_MISCONFIG, lambda exit: exit.guest_physical)
        ranges.add(address, length, handler, 1 << 52)
        self._vcpu.add_hole(address, length)

    def off_ports(self, first: int, count: int) -> None:
        """Let the ports that `on_ports` took with these numbers go back to the handler of the rest."""
        self._in_front(ExitReason.IO_INSTRUCTION, lambda exit: exit.port).remove(first, count)

    def off_mmio(self, address: int, length: int) -> None:
        """Let the addresses that `on_mmio` took with these numbers go back to the handler of the rest."""
        self._in_front(ExitReason.EPT_MISCONFIG, lambda exit: exit.guest_physical).remove(address, length)

    def _in_front(self, reason: ExitReason, place: Callable[[Exit], int]) -> _Ranges:
        ranges = self._ranges.get(reason)
        if ranges is None:
            rest = self._vcpu.handler(reason)
            if rest is None:
                raise ValueError(f"{reason.name} has no handler for the rest")
            ranges = _Ranges(place, rest)
        self._vcpu.set_handler(reason, ranges)  # refuses while another thread runs it
        self._ranges[reason] = ranges
        return ranges

    @property
    def total(self) -> int:
        """All exits so far."""
        return sum(row[0] for row in self._vcpu.exit_statistics().values())

    def statistics(self) -> dict[ExitReason, ExitStatistic]:
        """By reason, the most frequent first."""
        details: dict[int, dict[int, ExitStatistic]] = {}
        for (reason, number), row in self._vcpu.exit_details().items():
            details.setdefault(reason, {})[number] = ExitStatistic(*row)
        rows = sorted(self._vcpu.exit_statistics().items(), key=lambda item: (-item[1][0], item[0]))
        return {ExitReason(reason): ExitStatistic(*row, details.get(reason, {})) for reason, row in rows}
