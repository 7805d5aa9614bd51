"""What of the host a guest could reach, and did: the hypervisor's attack surface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hvmx.machine import Machine

    from .ways import Way


@dataclass(frozen=True)
class Interface:
    """By kind, such as ``ports`` or ``hypercalls``: how many the guest could reach, and which it did, with how often."""

    reachable: dict[str, int]
    reached: dict[str, dict[str, int]]
    refused: int
    """Requests that were answered by an error."""

    def as_json(self) -> dict[str, Any]:
        return {"reachable": self.reachable, "reached": self.reached, "refused": self.refused}


def interface_of(machine: Machine, way: Way) -> Interface:
    """What there was for this machine's guest, and what of it the guest used."""
    return Interface({}, {}, machine.hypercalls.unanswered)
