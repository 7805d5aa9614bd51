"""Where guest cycles went, to the last fraction of one: by what was charged, how often, and at which price of the profile.

A machine's clock and counters are read before and after (`Reading`); the difference is split into items whose units add up
to what the clock advanced by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from hvmx.cost import FRACTION, Profile
from hvmx.exits import detail_name
from hvmx.isa import MEMORY_CLASSES
from hvmx.vocabulary import DETAILS, EXCEPTIONS, Charge, ExitReason

if TYPE_CHECKING:
    from hvmx.machine import Machine

    from .ways import Way

_Key = TypeVar("_Key")


class Part(Enum):
    """Where guest cycles go, in the order in which reports have it."""

    CODE = "guest code"
    WALKS = "page walks"
    CACHES = "caches"
    EVENTS = "exceptions and interrupts"
    EXITS = "exits"
    HYPERCALLS = "hypercalls"
    BOUNCES = "bounces"
    EMULATION = "emulated instructions"
    WAITING = "waiting"


@dataclass(frozen=True)
class Item:
    """What one thing took."""

    part: Part
    name: str
    count: int
    units: int
    """Of 1/``hvmx.cost.FRACTION`` guest cycle."""
    price: str | None = None
    """The key of its figure in the profile, such as ``exits.CPUID``; None where it is the pipeline's work, or none."""
    of: tuple[tuple[str, int], ...] = ()
    """What the count is made of, where that says more: hypercalls by name, instructions by class."""
    reason: str | None = None
    """Of an exit: the name of its reason."""

    @property
    def guest_cycles(self) -> float:
        return self.units / FRACTION

    def as_json(self) -> dict[str, Any]:
        return {
            "part": self.part.value,
            "name": self.name,
            "count": self.count,
            "units": self.units,
            "guest_cycles": round(self.guest_cycles, 3),
            "price": self.price,
            "of": dict(self.of),
            "reason": self.reason,
        }


_MISPREDICTION = "misprediction"
_WALK = "paging.reference"
_SECOND_HIT = "tlb.second_hit"
_EVENT = "events.exception"
_BOUNCE = "paravirtual.bounce"

_CHARGES: Mapping[Charge, tuple[Part, str, str | None]] = {
    Charge.STRING: (Part.CODE, "elements of repeated string instructions (REP)", "strings"),
    Charge.DRAIN: (Part.CODE, "the pipeline drained before an event", None),
    Charge.DATA_WALK: (Part.WALKS, "page-table entries read to find data", _WALK),
    Charge.CODE_WALK: (Part.WALKS, "page-table entries read to find code", _WALK),
    Charge.DATA_TLB_HIT: (Part.WALKS, "data found in the second-level TLB", _SECOND_HIT),
    Charge.CODE_TLB_HIT: (Part.WALKS, "code found in the second-level TLB", _SECOND_HIT),
    Charge.CACHE: (Part.CACHES, "accesses that missed a cache", "caches"),
    Charge.EXCEPTION: (Part.EVENTS, "exceptions delivered", _EVENT),
    Charge.INTERRUPT: (Part.EVENTS, "interrupts delivered", _EVENT),
    Charge.USER_DEVICE: (Part.EXITS, "exits that go on to user space", "exits.user_device"),
    Charge.HYPERCALL: (Part.HYPERCALLS, "hypercalls, dispatch and return", "paravirtual.hypercall"),
    Charge.CALL: (Part.HYPERCALLS, "work that a function asked for", None),
    Charge.UPDATE: (Part.HYPERCALLS, "elements that hypercalls process", "paravirtual.update"),
    Charge.ENTRY: (Part.HYPERCALLS, "page-table entries validated", "paravirtual.entry"),
    Charge.EMULATION: (Part.EMULATION, "instructions emulated", "paravirtual.emulation"),
    Charge.BOUNCED_CALL: (Part.BOUNCES, "system calls passed on to the kernel", _BOUNCE),
    Charge.BOUNCED_EXCEPTION: (Part.BOUNCES, "exceptions passed on to the kernel", _BOUNCE),
    Charge.BOUNCED_EVENT: (Part.BOUNCES, "events delivered to the kernel", _BOUNCE),
}
"""All but exits, which are by reason."""


@dataclass(frozen=True)
class Reading:
    """A machine's clock and counters at a moment, or the difference of two."""

    units: int
    """Guest time, of 1/``hvmx.cost.FRACTION`` cycle."""
    waited: int
    """Of it, halted until an interrupt."""
    instructions: int
    charges: Mapping[Charge, tuple[int, int]]
    """Count and units."""
    exits: Mapping[tuple[ExitReason, int | None], int]
    """By reason, and by port, MSR, ... where there is one."""
    hypercalls: Mapping[str, int]
    """By name, those within a multicall too."""
    classes: Mapping[str, tuple[int, int]]
    """Instructions and their units by cost class; empty unless the machine finds that out."""

    @classmethod
    def of(cls, machine: Machine, *, with_classes: bool = False) -> Reading:
        units, waited = machine.cpu.time_units
        return cls(
            units=units,
            waited=waited,
            instructions=machine.cpu.instructions,
            charges={Charge(kind): row for kind, row in machine.cpu.charges().items()},
            exits=machine.exits.counts_by_number(),
            hypercalls=machine.hypercalls.counts() if machine.domain is not None else {},
            classes=machine.cpu.time_by_class() if with_classes else {},
        )

    def __sub__(self, before: Reading) -> Reading:
        return Reading(
            units=self.units - before.units,
            waited=self.waited - before.waited,
            instructions=self.instructions - before.instructions,
            charges=_less_each(self.charges, before.charges),
            exits=_less(self.exits, before.exits),
            hypercalls=_less(self.hypercalls, before.hypercalls),
            classes=_less_each(self.classes, before.classes),
        )

    def __add__(self, other: Reading) -> Reading:
        return self - (NOTHING - other)

    def items(self, profile: Profile, way: Way) -> list[Item]:
        """The time split up, in the order of ``Part``."""
        items = [*self._by_class(profile), *self._charged(), *self._exits(profile, way)]
        if self.waited:
            items.append(Item(Part.WAITING, "halted until an interrupt", 0, self.waited))
        rest = self.units - sum(item.units for item in items)
        others = self.instructions - sum(count for count, _ in self.classes.values())
        if rest or others:
            items.insert(0, Item(Part.CODE, "instructions", others, rest))
        order = list(Part)
        return sorted(items, key=lambda item: order.index(item.part))

    def _by_class(self, profile: Profile) -> Iterator[Item]:
        """What nothing overlaps with has a price, and waits for what came before. Of the rest the figures say how it goes
        through the pipeline, and no more than the time of all of it together can be told."""
        overlapping, waits = [], 0
        for name, (count, units) in self.classes.items():
            if name == _MISPREDICTION:
                key, price = f"pipeline.{name}", profile.pipeline.misprediction.units
                name = "mispredicted branches"
            elif profile.instructions[name].serial or not profile.pipeline.window.value:
                key = f"{'memory' if name in MEMORY_CLASSES else 'instructions'}.{name}"
                price = profile.instructions[name].units
                name = f"instruction: {name}"
            else:
                overlapping.append((name, count, units))
                continue
            waits += units - count * price
            if count:
                yield Item(Part.CODE, name, count, count * price, key)
        if overlapping:
            overlapping.sort(key=lambda row: (-row[1], row[0]))
            counts = tuple((name, count) for name, count, _ in overlapping)
            units = sum(units for _, _, units in overlapping)
            yield Item(Part.CODE, "other instructions, several at a time", sum(count for _, count in counts), units, of=counts)
        if waits:
            yield Item(Part.CODE, "waiting for earlier results", 0, waits)

    def _charged(self) -> Iterator[Item]:
        for kind, (part, name, price) in _CHARGES.items():
            count, units = self.charges.get(kind, (0, 0))
            if count or units:
                calls = tuple(sorted(self.hypercalls.items(), key=lambda call: (-call[1], call[0])))
                yield Item(part, name, count, units, price, calls if kind is Charge.HYPERCALL else ())

    def _exits(self, profile: Profile, way: Way) -> Iterator[Item]:
        """Each at the price of its reason; of a native guest none has any."""
        if way.native:
            return
        left, ports = self.charges.get(Charge.EXIT, (0, 0))[1], 0
        for (reason, number), count in sorted(self.exits.items(), key=lambda exit: -exit[1]):
            figure = profile.paravirtual.emulation if way.pv else profile.exits[reason]
            key = "paravirtual.emulation" if way.pv else f"exits.{reason.name}"
            concerned = "" if number is None else f" {detail_name(reason, number)}"
            if reason is ExitReason.EXCEPTION_NMI and number in EXCEPTIONS:
                concerned += f" ({EXCEPTIONS[number]})"
            name = f"{'trapped and emulated' if way.pv else 'exit'}: {reason.name}{concerned}"
            left -= count * figure.units
            yield Item(Part.EXITS, name, count, count * figure.units, key, reason=reason.name)
            if way.pv and reason is ExitReason.IO_INSTRUCTION:
                ports += count
        if ports:  # which the hypervisor accesses itself
            port = profile.instructions["io"]
            left -= ports * port.units
            yield Item(Part.EXITS, "accesses to the hardware's ports", ports, ports * port.units, "instructions.io")
        assert left == 0, f"exits: {left} units were charged otherwise than by reason"


NOTHING = Reading(0, 0, 0, {}, {}, {}, {})


def _less(now: Mapping[_Key, int], before: Mapping[_Key, int]) -> dict[_Key, int]:
    """What is more now; what is as it was is left out."""
    return {key: now.get(key, 0) - before.get(key, 0) for key in {**before, **now} if now.get(key, 0) != before.get(key, 0)}


def _less_each(now: Mapping[_Key, tuple[int, int]], before: Mapping[_Key, tuple[int, int]]) -> dict[_Key, tuple[int, int]]:
    """The same of counts with their units."""
    found = {}
    for key in {**before, **now}:
        (count, units), (count_before, units_before) = now.get(key, (0, 0)), before.get(key, (0, 0))
        if count != count_before or units != units_before:
            found[key] = count - count_before, units - units_before
    return found


def by_part(items: list[Item] | tuple[Item, ...]) -> dict[Part, int]:
    """The units of each part that has any."""
    found = {part: sum(item.units for item in items if item.part is part) for part in Part}
    return {part: units for part, units in found.items() if units}


MOST_NUMBERS = 6
"""Of more ports, pages, ... a report has the exits of one reason in one row."""


def gathered(items: Iterable[Item]) -> list[Item]:
    """The same, where exits of one reason that are of many ports, pages, ... are one item."""
    together: dict[tuple[Part, str], list[Item]] = {}
    for item in items:
        together.setdefault((item.part, item.reason or item.name), []).append(item)
    found = []
    for (part, reason), parts in together.items():
        if len(parts) <= MOST_NUMBERS:
            found += parts
        else:
            name = f"{parts[0].name.partition(':')[0]}: {reason}, {len(parts)} {DETAILS[ExitReason[reason]]}s"
            count, units = sum(it.count for it in parts), sum(it.units for it in parts)
            found.append(Item(part, name, count, units, parts[0].price, reason=reason))
    return found
