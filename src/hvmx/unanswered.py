"""What a guest asked for that is not there: ports and memory without a device, MSRs that the processor has not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hvmx.exits import OTHERS, ExitReason

if TYPE_CHECKING:
    from hvmx.machine import Machine

Counts = dict[str, dict[str, int]]
"""``reads`` and ``writes`` by address or number in hexadecimal; ``others`` are ports and addresses beyond what is counted one by
one."""


def unanswered(machine: Machine) -> dict[str, Counts]:
    """``ports``, ``mmio`` and ``msrs``: what read as all ones, was written to nothing, or was #GP.

    A PV guest has no MMIO, and its MSRs are its hypervisor's.
    """
    found: dict[str, Counts] = {}
    if machine.board is not None:
        for name, bus in (("ports", machine.board.ports), ("mmio", machine.board.mmio)):
            found[name] = _counts(bus.unmapped_reads, bus.unmapped_writes)
    if machine.domain is None:
        statistics = machine.exits.statistics()
        reads, writes = (
            {number: one.count for number, one in statistics[reason].detail.items() if _is_missing(machine, number)}
            if reason in statistics
            else {}
            for reason in (ExitReason.MSR_READ, ExitReason.MSR_WRITE)
        )
        found["msrs"] = _counts(reads, writes)
    return found


def _is_missing(machine: Machine, msr: int) -> bool:
    """Of those that are not counted one by one nobody knows."""
    return msr != OTHERS and not machine.cpu.has_msr(msr)


def _counts(reads: Mapping[int, int], writes: Mapping[int, int]) -> Counts:
    return {
        "others" if number == OTHERS else f"{number:#x}": {
            "reads": reads.get(number, 0),
            "writes": writes.get(number, 0),
        }
        for number in sorted({*reads, *writes})
    }
