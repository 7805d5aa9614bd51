"""Which way an operation is cheapest in, and on which figures of the profile that hangs.

The guest cycles of an operation are a sum over figures, each as often as it was charged: so what another value of one of them
would come to follows without another run. Only figures that nobody checked against a processor (``Mark.ASSUMED``) are varied,
from half to double.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hvmx import guests
from hvmx.cost import Mark, Profile

from .outcome import Operation, Outcome
from .ways import BY_NAME

HALF, DOUBLE = 0.5, 2.0

SAME = 1.005
"""Ratio within which two ways cost the same: they differ by what the caches of page walks hold."""


@dataclass(frozen=True)
class Hinge:
    """An assumed figure beyond a value of which another way would be the cheapest."""

    figure: str
    """Its key in the profile."""
    now: float
    """Guest cycles, as the profile has it."""
    limit: float
    """Guest cycles at which both cost the same."""
    then: str
    """The way that wins beyond."""

    @property
    def below(self) -> bool:
        """Whether the winner wins below the limit, or above it."""
        return self.now < self.limit

    @property
    def is_near(self) -> bool:
        """Whether half or double the figure is beyond the limit."""
        return self.now * HALF <= self.limit <= self.now * DOUBLE


@dataclass(frozen=True)
class Worst:
    """The assumed figures as bad for the winner as they may be."""

    doubled: tuple[str, ...]
    halved: tuple[str, ...]
    """Keys, those that matter most first."""
    rival: str
    """The way that is cheapest then, or comes nearest."""
    guest_cycles: float
    """Of the winner, then."""
    rival_cycles: float


@dataclass(frozen=True)
class Verdict:
    """Of the ways that have a hypervisor."""

    winners: tuple[str, ...]
    """The cheapest way, and those that cost the same."""
    hinges: tuple[Hinge, ...]
    """The nearest limit of each assumed figure that has one."""
    worst: Worst | None
    """Between half and double, all of them; None where no way is dearer than the winners."""

    @property
    def sure(self) -> bool:
        """Whether the winners stay the cheapest wherever the assumed figures are between half and double, all of them."""
        return self.worst is None or self.worst.guest_cycles < self.worst.rival_cycles


def verdict(profile: Profile, outcomes: Mapping[str, Outcome], operation: str) -> Verdict | None:
    """None where there are no two ways to choose from, or no ledgers."""
    costs = {
        way: _Cost.of(outcome.operations[operation])
        for way, outcome in outcomes.items()
        if operation in outcome.operations and not BY_NAME[way].native
    }
    if len(costs) < 2 or not all(cost.figures for cost in costs.values()):
        return None
    best = min(costs, key=lambda way: costs[way].cycles)
    winners = tuple(way for way in costs if costs[way].cycles <= costs[best].cycles * SAME)
    rivals = [way for way in costs if way not in winners]
    assumed = {key: figure.cycles for key, figure in profile.figures() if figure.mark is Mark.ASSUMED and figure.cycles}
    hinges = [found for key, now in assumed.items() if (found := _nearest(key, now, costs, best, rivals)) is not None]
    worst = [_worst(costs[best], costs[rival], rival, assumed) for rival in rivals]
    nearest = min(worst, key=lambda one: one.rival_cycles - one.guest_cycles, default=None)
    return Verdict(winners, tuple(sorted(hinges, key=_distance)), nearest)


def verdicts(profile: Profile, outcomes: Mapping[str, Outcome]) -> dict[str, Verdict]:
    """By operation, of those that there is one on, in the guest's order."""
    found = {name: verdict(profile, outcomes, name) for name in guests.WORKLOADS}
    return {name: one for name, one in found.items() if one is not None}


@dataclass(frozen=True)
class _Cost:
    """What one operation costs in one way."""

    cycles: float
    figures: Mapping[str, float]
    """How often each figure is charged, in an operation."""

    @classmethod
    def of(cls, operation: Operation) -> _Cost:
        counts: dict[str, float] = {}
        for item in operation.ledger:
            if item.price is not None:
                counts[item.price] = counts.get(item.price, 0.0) + item.count / operation.count
        return cls(operation.cycles_each, counts)

    def cycles_with(self, assumed: Mapping[str, float], factors: Mapping[str, float]) -> float:
        """With these figures so many times as large."""
        return self.cycles + sum(
            self.figures.get(key, 0.0) * assumed[key] * (factor - 1) for key, factor in factors.items()
        )


def _worst(best: _Cost, rival: _Cost, name: str, assumed: Mapping[str, float]) -> Worst:
    """Double is what the winner has more of, half what the rival has."""
    more = {key: (best.figures.get(key, 0.0) - rival.figures.get(key, 0.0)) * now for key, now in assumed.items()}
    telling = sorted((key for key, cycles in more.items() if cycles), key=lambda key: -abs(more[key]))
    factors = {key: DOUBLE if more[key] > 0 else HALF for key in telling}
    return Worst(
        doubled=tuple(key for key in telling if factors[key] == DOUBLE),
        halved=tuple(key for key in telling if factors[key] == HALF),
        rival=name,
        guest_cycles=best.cycles_with(assumed, factors),
        rival_cycles=rival.cycles_with(assumed, factors),
    )


def _nearest(key: str, now: float, costs: Mapping[str, _Cost], best: str, rivals: list[str]) -> Hinge | None:
    """Where the figure makes another way the cheapest; the nearest such value."""
    found = []
    for rival in rivals:
        steeper = costs[best].figures.get(key, 0.0) - costs[rival].figures.get(key, 0.0)
        if steeper:
            limit = now + (costs[rival].cycles - costs[best].cycles) / steeper
            if limit > 0:
                found.append(Hinge(key, now, limit, rival))
    return min(found, key=_distance, default=None)


def _distance(hinge: Hinge) -> float:
    return max(hinge.limit / hinge.now, hinge.now / hinge.limit)
