"""What a run took besides guest cycles: page tables and state that a hypervisor keeps, and of this host memory and time."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hvmx.exits import Statistic
from hvmx.hvm.device import State

if TYPE_CHECKING:
    from hvmx.machine import Machine

_WORD = 8
"""Bytes that a number counts of a device's state."""


PAGEMAP = Path("/proc/self/pagemap")
"""A word for each page of this process; bit 63: it is resident (proc(5))."""


@dataclass(frozen=True)
class Resources:
    """At the end of the run; the same on every host."""

    guest_memory: int
    """Bytes."""
    nested_tables: int
    """Pages of 4 KiB: page tables that nested paging needs for what it has mapped."""
    shadow_tables: int
    """The same that shadow paging keeps, one for each page table of the guest that was walked."""
    typed_tables: int
    """Page tables of the guest's own that the hypervisor has validated: PV's."""
    frame_table: int
    """Bytes: the owner, type and references of each frame that a domain may have."""
    device_state: int
    """Bytes: the fields that the board's devices save, a number as 8 bytes; none where the guest does not reach them."""
    domain_state: int
    """Bytes that the hypervisor keeps of a domain, with its tables of hypercalls and events."""

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Host:
    """What this run took of this host: other figures at each run."""

    seconds: float
    """Host time of the run."""
    exit_seconds: float
    """Of it, in handlers of exits and in devices."""
    hypercall_seconds: float
    """Of it, in the functions of hypercalls: an estimate from those that were timed. A multicall counts by the calls in it."""
    core_memory: int | None
    """Bytes, resident at the end, of what the core has besides guest memory: code decoded and translated, books of pages, the
    pipeline's paths. Python's objects and the small tables of the models are not in it. None where the host does not say."""

    @property
    def other_seconds(self) -> float:
        """The rest: guest code, page walks, deadlines of devices."""
        return self.seconds - self.exit_seconds - self.hypercall_seconds

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "other_seconds": self.other_seconds}


def resources_of(machine: Machine) -> Resources:
    domain = None if machine.domain is None else machine.domain.xen
    return Resources(
        guest_memory=machine.cpu.memory_bytes,
        nested_tables=machine.cpu.nested_tables,
        shadow_tables=machine.cpu.shadow_tables,
        typed_tables=0 if domain is None else domain.page_tables,
        frame_table=0 if domain is None else domain.frame_table_bytes,
        device_state=0 if machine.board is None else _state_bytes(machine.board.save()),
        domain_state=0 if domain is None else domain.state_bytes,
    )


def _state_bytes(state: State) -> int:
    return sum(
        _state_bytes(value) if isinstance(value, dict) else len(value) if isinstance(value, bytes) else _WORD
        for name, value in state.items()
        if name != "version"
    )


def host_of(machine: Machine, seconds: float) -> Host:
    """What a run of so many seconds took."""
    return Host(
        seconds=seconds,
        exit_seconds=_seconds(machine.exits.statistics()),
        hypercall_seconds=_seconds(_calls(machine)),
        core_memory=_core_memory(machine),
    )


def _calls(machine: Machine) -> dict[str, Statistic]:
    """Those that no other has in it; VMCALLs are exits."""
    if machine.domain is None:
        return {}
    return {name: row for name, row in machine.hypercall_statistics().items() if name != "multicall"}


def _seconds(rows: Mapping[Any, Statistic]) -> float:
    return sum(row.host_ns for row in rows.values()) / 1e9


def _core_memory(machine: Machine) -> int | None:
    pages = 0
    try:
        with PAGEMAP.open("rb") as pagemap:
            for address, size in machine.cpu.host_memory():
                first, last = address // mmap.PAGESIZE, -(-(address + size) // mmap.PAGESIZE)
                pagemap.seek(first * 8)
                entries = np.frombuffer(pagemap.read((last - first) * 8), np.uint64)
                pages += int((entries >> np.uint64(63)).sum())
    except OSError:
        return None
    return pages * mmap.PAGESIZE
