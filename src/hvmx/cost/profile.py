"""A cost profile: figures in guest cycles, and how the core is given them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hvmx.core.vcpu import Vcpu
    from hvmx.exits import ExitReason

FRACTION = 64
"""The core counts in this fraction of a guest cycle (CYCLE_FRACTION of core/state.h)."""


class Mark(Enum):
    """How a figure came about."""

    PUBLISHED = "published"
    """It stands in the source, or is a difference of two that do."""
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
    """Title of what the figure is from."""
    where: str
    """Where it stands there, or how it follows from what does."""

    @property
    def units(self) -> int:
        """The cost as the core counts it, in units of 1/64 guest cycle."""
        return round(self.cycles * FRACTION)


@dataclass(frozen=True)
class Paravirtual:
    """What Xen's paths cost."""

    hypercall: Figure
    """A hypercall, beside the SYSCALL instruction: the way in, the dispatch and the way back."""
    bounce: Figure
    """The way on from the hypervisor to the guest kernel, of a system call or an exception."""
    update: Figure
    """An element of a list that a hypercall works through."""
    entry: Figure
    """A page-table entry validated."""
    emulation: Figure
    """An instruction that faulted and that the hypervisor carries out, beside the fault's delivery to it."""


@dataclass(frozen=True)
class Profile:
    """Costs for one processor. Guest cycles throughout."""

    name: str
    """As it was asked for: a bundled profile's name, or a path."""
    processor: str
    cpu: str
    """The level (``hvmx.isa.levels``) of a machine that is given no other."""
    second: Figure
    """Guest cycles in a guest second: the frequency of the time-stamp counter."""
    classes: Mapping[str, Figure]
    """By cost class (``hvmx.isa.cost_classes``); all of them are there."""
    page_reference: Figure
    """One page-table reference of a TLB miss's walk."""
    exception: Figure
    """The entry into the handler of an exception or interrupt."""
    exits: Mapping[ExitReason, Figure]
    """An exit and the entry after it, by reason; all reasons are there."""
    user_device: Figure
    """The further hop to a device that lives in the hypervisor's user space."""
    paravirtual: Paravirtual
    written: Mapping[str, Figure]
    """The figures as the file has them, by their place in it: the default of exits once."""

    def marks(self, place: str = "") -> dict[Mark, int]:
        """How many figures of the file came about in which way, of those whose place begins so."""
        found = [figure.mark for key, figure in self.written.items() if key.startswith(place)]
        return {mark: found.count(mark) for mark in Mark}

    @property
    def hz(self) -> int:
        """Guest cycles in a guest second."""
        return int(self.second.cycles)

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """All figures by their place in the file."""
        yield "clock.second", self.second
        yield from ((f"classes.{name}", figure) for name, figure in self.classes.items())
        yield "paging.reference", self.page_reference
        yield "events.exception", self.exception
        yield from ((f"exits.{reason.name}", figure) for reason, figure in self.exits.items())
        yield "exits.user_device", self.user_device
        yield from ((f"paravirtual.{name}", figure) for name, figure in vars(self.paravirtual).items())

    def apply(self, vcpu: Vcpu, *, pv: bool = False) -> None:
        """Let the processor count by these costs from now on.

        What takes an HVM guest to a handler by an exit takes a PV guest there by a fault, and is emulated. Its ports
        are a dom0's: those of the hardware itself, which the hypervisor reaches without a device in user space.
        """
        exits = {reason: self.paravirtual.emulation if pv else figure for reason, figure in self.exits.items()}
        vcpu.set_costs(
            {name: figure.units for name, figure in self.classes.items()},
            {int(reason): figure.units for reason, figure in exits.items()},
            walk_reference=self.page_reference.units,
            exception=self.exception.units,
            hypercall=self.paravirtual.hypercall.units,
            pv_bounce=self.paravirtual.bounce.units,
            user_device=0 if pv else self.user_device.units,
        )
