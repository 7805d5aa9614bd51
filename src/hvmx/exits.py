"""Exits: the handler of each reason, and their statistics."""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from hvmx.nocopies import NoCopies
from hvmx.statistic import Statistic
from hvmx.vocabulary import DETAILS, PV_REASONS, ExitReason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hvmx.core.exit_info import Exit
    from hvmx.core.vcpu import Vcpu
    from hvmx.hvm.bus import Bus, Region
    from hvmx.pv.xen import VmcallTable

    Handler = Callable[[Vcpu, Exit], None]

__all__ = ["ExitReason", "Exits", "Statistic"]


_REASONS = frozenset(ExitReason)

OTHERS = -1
"""The number under which exits are counted when too many numbers have been seen."""


def detail_name(reason: int, number: int) -> str:
    """What the number of an exit is: ``port 0x3f8``, ``MSR 0xc0000080``, ...; empty where it is nothing."""
    kind = DETAILS.get(ExitReason(reason))
    if kind is None:
        return ""
    if number == OTHERS:
        return "others"
    return f"{kind} {number}" if reason == ExitReason.VMCALL else f"{kind} {number:#x}"


def exit_name(reason: int, number: int) -> str:
    """An exit in words: its reason and what it concerns."""
    return f"{ExitReason(reason).name} {detail_name(reason, number)}".rstrip()


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

    def __bool__(self) -> bool:
        return bool(self._firsts)

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

    def __init__(self, vcpu: Vcpu, vmcalls: VmcallTable) -> None:
        """`vmcalls` answers VMCALL, and counts what it answers in C."""
        self._vcpu = vcpu
        self._vmcalls = vmcalls
        self._ranges: dict[int, _Ranges] = {}
        self._defaults: dict[int, Handler | None] = {}  # of the reasons that `on` has been asked for
        self._replaced: dict[tuple[int, int], NDArray[np.uint8]] = {}  # of kernel_ports, by range
        self._reasons = _REASONS

    def on(self, reason: int, handler: Handler) -> Handler | None:
        """Let `handler(vcpu, exit)` take this exit reason; returns the handler that did so before.

        When it returns, the instruction is complete, unless it moved `vcpu.rip` or injected an exception. What it
        raises comes out of `run()`, with the guest as it was before the instruction. Ranges of ports and addresses
        keep their handlers.

        VMCALL goes to the hypercall table unless it has a handler here, which may hand it on to the one before: that
        of the table. With the table's the calls that C functions answer stay in C; any handler here gets them all.

        ValueError for a reason that is no `ExitReason`, or of which a PV guest has no exits once one is loaded;
        TypeError for what cannot be called.
        """
        _check(handler)
        if operator.index(reason) not in _REASONS:
            raise ValueError(f"no exit reason {reason}: they are those of ExitReason")
        self._check_occurs(reason)
        previous = self._handler(reason)
        if reason in self._ranges:
            self._vcpu.set_handler(reason, self._ranges[reason])  # refuses while another thread runs it
            self._ranges[reason].rest = handler
        else:
            self._vcpu.set_handler(reason, handler)
        self._defaults.setdefault(reason, previous)
        return previous

    def on_ports(self, first: int, count: int, handler: Handler, *, in_kernel: bool = False) -> None:
        """Let `handler(vcpu, exit)` take the port I/O that starts at one of `count` ports from `first` on.

        It finds `exit.port`, `exit.width` in bytes and `exit.is_in`, takes what the guest writes from `exit.value`
        and sets that to what the guest reads. ValueError where there is no such port, or it has a handler.

        What an access costs depends on where the device is that lives there, not on who answers: an exit goes on to
        the hypervisor's user space, at the profile's price `user_device`, unless the device is `in_kernel`. So do
        ports that nobody answers; of the board's devices PIC, PIT and the speaker's port are the kernel's, as KVM's.
        A dom0's ports are the hardware's own and have no such way to go.
        """
        self._in_front(ExitReason.IO_INSTRUCTION, lambda exit: exit.port).add(first, count, handler, 1 << 16)
        ports = self._vcpu.kernel_ports[first : first + count]
        self._replaced[first, count] = ports.copy()
        ports[:] = in_kernel

    def on_mmio(self, address: int, length: int, handler: Handler, *, in_kernel: bool = False) -> None:
        """Let `handler(vcpu, exit)` take accesses that start in `length` bytes from a guest-physical address on.

        As `on_ports`, with `exit.guest_physical` and `exit.is_write`. RAM there gives way, in whole pages, for good.
        """
        ranges = self._in_front(ExitReason.EPT_MISCONFIG, lambda exit: exit.guest_physical)
        ranges.add(address, length, handler, 1 << 52)
        self._vcpu.mmio_devices.insert(0, (range(address, address + length), in_kernel))
        self._vcpu.add_hole(address, length)

    def off_ports(self, first: int, count: int) -> None:
        """Let the ports that `on_ports` took with these numbers go back to the handler of the rest."""
        self._in_front(ExitReason.IO_INSTRUCTION, lambda exit: exit.port).remove(first, count)
        self._vcpu.kernel_ports[first : first + count] = self._replaced.pop((first, count))

    def off_mmio(self, address: int, length: int) -> None:
        """Let the addresses that `on_mmio` took with these numbers go back to the handler of the rest."""
        self._in_front(ExitReason.EPT_MISCONFIG, lambda exit: exit.guest_physical).remove(address, length)
        here, devices = range(address, address + length), self._vcpu.mmio_devices
        del devices[next(place for place, (other, _) in enumerate(devices) if other == here)]

    def watch_devices(self, ports: Bus, mmio: Bus) -> None:
        """Where a board's devices are, also those that are added later: in the kernel or in user space."""
        ports.watch(self._place_ports)
        mmio.watch(self._place_registers)

    def _place_ports(self, region: Region) -> None:
        """A handler's ports keep what `on_ports` said, for as long as it has them."""
        for port in range(region.base, region.base + region.length):
            for (first, count), replaced in self._replaced.items():
                if first <= port < first + count:
                    replaced[port - first] = region.in_kernel
                    break
            else:
                self._vcpu.kernel_ports[port] = region.in_kernel

    def _place_registers(self, region: Region) -> None:
        """RAM there gives way, as for `on_mmio`, whose ranges come first."""
        if region.in_kernel:
            self._vcpu.mmio_devices.append((range(region.base, region.base + region.length), True))
        self._vcpu.add_hole(region.base, region.length)

    def become_pv(self) -> None:
        """The guest is a PV one from now on. ValueError if a handler was set that would never be called."""
        changed = {reason for reason, default in self._defaults.items() if self._handler(reason) is not default}
        changed |= {reason for reason, ranges in self._ranges.items() if ranges}
        if never := sorted(changed - PV_REASONS):
            names = ", ".join(ExitReason(reason).name for reason in never)
            raise ValueError(f"there is a handler of {names}, and a PV guest has no such exit")
        self._reasons = PV_REASONS

    def _check_occurs(self, reason: int) -> None:
        if reason not in self._reasons:
            raise ValueError(f"a PV guest has no exit {ExitReason(reason).name}")

    def _handler(self, reason: int) -> Handler | None:
        """What takes the exits of no range."""
        ranges = self._ranges.get(reason)
        return self._vcpu.handler(reason) if ranges is None else ranges.rest

    def _in_front(self, reason: ExitReason, place: Callable[[Exit], int]) -> _Ranges:
        self._check_occurs(reason)
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
        return sum(self.counts().values())

    def counts(self) -> dict[ExitReason, int]:
        """How many so far, by reason."""
        counts = {ExitReason(reason): row[0] for reason, row in self._vcpu.exit_statistics().items()}
        if in_c := sum(row[0] for row in self._vmcalls.answered_in_c().values()):
            counts[ExitReason.VMCALL] = counts.get(ExitReason.VMCALL, 0) + in_c
        return counts

    def counts_by_number(self) -> dict[tuple[ExitReason, int | None], int]:
        """The same by reason and what is concerned (port, MSR, ...; None where there is none), the most frequent reason first."""
        by_reason = self.counts()
        counts: dict[tuple[ExitReason, int | None], int] = {
            (reason, None): count for reason, count in by_reason.items() if reason not in DETAILS
        }
        for (reason, number), row in self._vcpu.exit_details().items():
            counts[ExitReason(reason), number] = row[0]
        for number, row in self._vmcalls.answered_in_c().items():
            counts[ExitReason.VMCALL, number] = counts.get((ExitReason.VMCALL, number), 0) + row[0]
        return dict(sorted(counts.items(), key=lambda item: (-by_reason[item[0][0]], item[0][0])))

    def statistics(self) -> dict[ExitReason, Statistic]:
        """By reason, the most frequent first."""
        details: dict[int, dict[int, Statistic]] = {}
        for (reason, number), row in self._vcpu.exit_details().items():
            details.setdefault(reason, {})[number] = Statistic(*row)
        rows = {
            ExitReason(reason): Statistic(*row, details.get(reason, {}))
            for reason, row in self._vcpu.exit_statistics().items()
        }
        for number, row in self._vmcalls.answered_in_c().items():
            calls = Statistic(*row)
            calls = replace(calls, detail={number: calls})
            rows[ExitReason.VMCALL] = rows[ExitReason.VMCALL] + calls if ExitReason.VMCALL in rows else calls
        return dict(sorted(rows.items(), key=lambda item: (-item[1].count, item[0])))
