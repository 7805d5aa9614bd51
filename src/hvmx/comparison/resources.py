"""What a run took besides guest cycles: memory that is not the guest's own, and the host's time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hvmx.machine import Machine


@dataclass(frozen=True)
class Resources:
    """Memory, in bytes and in pages of 4 KiB; the same on every machine."""

    guest_memory: int
    """Bytes."""
    shadow_pages: int
    """Page tables that the hypervisor keeps for shadow paging."""

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Host:
    """What this run took of this host: other figures at each run."""

    seconds: float
    """Host time of the run."""

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


def resources_of(machine: Machine) -> Resources:
    return Resources(machine.cpu.memory_bytes, 0)
