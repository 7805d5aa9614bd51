"""What exits of one reason, or hypercalls of one number, came to: in the columns of ``perf kvm stat``, for both clocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Figures = tuple[int, int, int, int, int, int, int]
"""As the core has them: count, guest cycles, least, most, host nanoseconds, least, most."""


@dataclass(frozen=True)
class Statistic:
    """Guest cycles are the model's, and the same on every machine; host time is what it took on this host.

    Of what C functions answered some calls were timed, and each that was not counts as the last one that was; with 0
    nanoseconds none was.
    """

    count: int
    guest_cycles: int
    guest_cycles_min: int
    guest_cycles_max: int
    host_ns: int = field(compare=False)
    host_ns_min: int = field(compare=False)
    host_ns_max: int = field(compare=False)
    detail: Mapping[int, Statistic] = field(default_factory=dict)
    """The same of each number that is concerned, where there is one: vector, port, MSR, guest-physical page; hypercall or
    sub-operation."""

    @property
    def guest_cycles_average(self) -> float:
        return self.guest_cycles / self.count

    @property
    def host_ns_average(self) -> float:
        return self.host_ns / self.count

    def __add__(self, other: Statistic) -> Statistic:
        details = dict(self.detail)
        for number, row in other.detail.items():
            details[number] = details[number] + row if number in details else row
        return Statistic(
            count=self.count + other.count,
            guest_cycles=self.guest_cycles + other.guest_cycles,
            guest_cycles_min=min(self.guest_cycles_min, other.guest_cycles_min),
            guest_cycles_max=max(self.guest_cycles_max, other.guest_cycles_max),
            host_ns=self.host_ns + other.host_ns,
            host_ns_min=min(self.host_ns_min, other.host_ns_min),
            host_ns_max=max(self.host_ns_max, other.host_ns_max),
            detail=details,
        )

    def as_json(self, name: Callable[[int], str] = str) -> dict[str, Any]:
        """The figures by name, and below ``detail`` the same of each of its numbers, by what ``name`` says of it."""
        figures = {key: value for key, value in vars(self).items() if key != "detail"}
        if self.detail:
            figures["detail"] = {name(number): row.as_json() for number, row in sorted(self.detail.items())}
        return figures


def total_of(rows: Mapping[int, Figures]) -> Statistic:
    """The statistic of several numbers together, with each of them below; of one alone that has number 0, itself."""
    parts = {number: Statistic(*row) for number, row in rows.items()}
    together, *others = parts.values()
    for other in others:
        together += other
    if list(parts) == [0]:
        return together
    return Statistic(**{**vars(together), "detail": parts})
