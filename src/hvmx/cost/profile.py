"""A cost profile: figures in guest cycles, and how they are passed to the core."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hvmx.core.vcpu import Vcpu
    from hvmx.exits import ExitReason

FRACTION = 64
"""The core counts in this fraction of a guest cycle (CYCLE_FRACTION of core/state/state.h)."""
SECOND_TLB_HIT = 9
"""Cycles: of a Skylake (Intel's event list, DTLB_LOAD_MISSES.STLB_HIT), whose TLBs the core has until a profile has its own."""


class Mark(Enum):
    """Where a figure comes from."""

    PUBLISHED = "published"
    """It is in the source, or is the difference of two figures that are."""
    FITTED = "fitted"
    """It was chosen so that the model gives the source's figure for a whole operation."""
    ASSUMED = "assumed"
    """It was not checked against a processor."""


def marks_in_words(marks: Mapping[Mark, int]) -> str:
    """In words: ``10 published, 4 fitted, 95 assumed``, or ``all assumed``."""
    some = {mark.value: count for mark, count in marks.items() if count}
    if len(some) == 1:
        return f"all {next(iter(some))}"
    return ", ".join(f"{count} {mark}" for mark, count in some.items())


@dataclass(frozen=True)
class Figure:
    """One cost, in guest cycles."""

    cycles: float
    mark: Mark
    source: str
    """The title of the source."""
    where: str
    """Where it is in the source, or how it follows from what is there."""

    @property
    def units(self) -> int:
        """The cost as the core counts it, in units of 1/64 guest cycle."""
        return round(self.cycles * FRACTION)


@dataclass(frozen=True)
class Paravirtual:
    """Costs of Xen's code paths."""

    hypercall: Figure
    """A hypercall, without the SYSCALL instruction: entry, dispatch and return."""
    bounce: Figure
    """Extra cycles when the hypervisor passes a system call or an exception on to the guest kernel."""
    update: Figure
    """One element of a list that a hypercall processes."""
    entry: Figure
    """The validation of one page-table entry."""
    emulation: Figure
    """The emulation of an instruction that faulted, without the delivery of the fault to the hypervisor."""


@dataclass(frozen=True)
class Profile:
    """Costs for one processor. Guest cycles throughout."""

    name: str
    """The name of a bundled profile, or a path, as it was given."""
    processor: str
    cpu: str
    """The default level (``hvmx.isa.levels``) of machines with this profile."""
    second: Figure
    """Guest cycles in a guest second: the frequency of the time-stamp counter."""
    classes: Mapping[str, Figure]
    """By cost class (``hvmx.isa.cost_classes``); all of them are there."""
    page_reference: Figure
    """One memory reference of a page walk, after a TLB miss."""
    exception: Figure
    """The entry into the handler of an exception or interrupt."""
    exits: Mapping[ExitReason, Figure]
    """An exit and the entry after it, by reason; all reasons are there."""
    user_device: Figure
    """Extra cycles when the hypervisor's user space (QEMU) handles the exit."""
    paravirtual: Paravirtual
    written: Mapping[str, Figure]
    """The figures of the file, by key; the default of exits only once."""

    def marks(self, place: str = "") -> dict[Mark, int]:
        """How many of the file's figures whose keys begin with ``place`` were published, fitted or assumed."""
        found = [figure.mark for key, figure in self.written.items() if key.startswith(place)]
        return {mark: found.count(mark) for mark in Mark}

    @property
    def hz(self) -> int:
        """Guest cycles in a guest second."""
        return int(self.second.cycles)

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """All figures, by their keys in the file."""
        yield "clock.second", self.second
        yield from ((f"classes.{name}", figure) for name, figure in self.classes.items())
        yield "paging.reference", self.page_reference
        yield "events.exception", self.exception
        yield from ((f"exits.{reason.name}", figure) for reason, figure in self.exits.items())
        yield "exits.user_device", self.user_device
        yield from ((f"paravirtual.{name}", figure) for name, figure in vars(self.paravirtual).items())

    def apply(self, vcpu: Vcpu, *, pv: bool = False) -> None:
        """Set the costs of a processor.

        An operation that exits in an HVM guest faults in a PV guest, and is emulated. The ports of a PV guest are a
        dom0's, those of the hardware: the hypervisor accesses them itself, without a device in user space.
        """
        exits = {reason: self.paravirtual.emulation if pv else figure for reason, figure in self.exits.items()}
        vcpu.set_tlb(second_hit=SECOND_TLB_HIT * FRACTION)
        vcpu.set_costs(
            {name: figure.units for name, figure in self.classes.items()},
            {int(reason): figure.units for reason, figure in exits.items()},
            walk_reference=self.page_reference.units,
            exception=self.exception.units,
            hypercall=self.paravirtual.hypercall.units,
            pv_bounce=self.paravirtual.bounce.units,
            user_device=0 if pv else self.user_device.units,
        )
