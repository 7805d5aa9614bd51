"""Measures what instructions of each cost class take: latency, slots of dispatch, and how long they occupy a pipe."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from math import ceil
from typing import Any

from .bench import Bench, Finding, Step, said, whole
from .instructions import PROBES, REPEATED, Probe
from .statistics import Unsettled

_LONGEST_FOR_SLOTS = 12
"""Of what takes more cycles than this, slots of dispatch hardly matter beside them."""

_FILL = 1.5
"""How much longer than the pipes the front end must take, so that the time is the front end's."""

_DISPATCH_BOUND = 1.15
"""An interval within so many times what dispatch alone takes says nothing of the pipes."""

_WHOLE = 0.1
"""How near to a whole number of slots what was measured must be. Microcode stops the front end for times between."""

_CHAINED = 1.3
"""A copy waits for the one before it in its register. Only an interval so many times that long is the pipes'."""

_AS_EXPECTED = 0.25
"""Core cycles, or the share of them, within which the base's pipes explain an interval."""

_EXITS = {"cpuid": 0, "rdtsc": 500, "rdtscp": 500, "pause": 500, "xgetbv": 500}
"""Under a hypervisor, what takes more cycles than this is what the hypervisor does: CPUID always exits."""

_SIZED = re.compile(r"([a-z]+)(8|16|32|64)")


def class_steps(bench: Bench) -> list[Step]:
    """All probes for which the base has a class."""
    probes = [(probe, _measure_class) for probe in PROBES] + [
        (probe, _measure_repeated) for probe in REPEATED
    ]
    return [
        Step(f"instructions.{probe.cost_class}", partial(_measure_if_there, probe, measure))
        for probe, measure in probes
        if bench.has(key_of(bench, probe.cost_class))
    ]


def key_of(bench: Bench, cost_class: str) -> str:
    """The key of a class in the base: its own, or that of all sizes together."""
    own = f"instructions.{cost_class}"
    return own if bench.has(own) else f"instructions.{sized_of(cost_class)}"


def sized_of(cost_class: str) -> str:
    """Of a class of one size, that of all; of others, itself."""
    sized = _SIZED.fullmatch(cost_class)
    return sized[1] if sized else cost_class


def _measure_if_there(probe: Probe, measure: Callable[..., None], bench: Bench) -> None:
    own = f"instructions.{probe.cost_class}"
    if probe.feature and probe.feature not in bench.host.features:
        bench.missing[own] = f"this processor does not have {probe.feature}"
    else:
        measure(bench, probe, own, bench.entry(key_of(bench, probe.cost_class)))


def latency_of(bench: Bench, cost_class: str) -> float:
    """Core cycles from operand to result of a class among ``PROBES``."""
    return _latency(bench, next(probe for probe in PROBES if probe.cost_class == cost_class))[0]


def _latency(bench: Bench, probe: Probe) -> tuple[float, str]:
    """The same, and how it came about."""
    chain = bench.time(probe.chained, probe.setup)
    text = f"chain of {_short(probe.chained)}: {said(chain)}"
    if probe.pair:
        ours, theirs = (
            bench.entry(f"instructions.{name}").get("latency", 1) for name in (probe.cost_class, probe.pair)
        )
        share = ours / (ours + theirs) if ours + theirs else 0.5
        return chain.value * share, f"{text}, divided as the base's latencies, {ours} and {theirs}"
    less = sum(latency_of(bench, name) for name in probe.less)
    if probe.less:
        text += f", less {less:.2f} for {' and '.join(probe.less)}"
    return (chain.value - less) / probe.per, text


def _measure_class(bench: Bench, probe: Probe, key: str, entry: Mapping[str, Any]) -> None:
    latency, text = _latency(bench, probe)
    overlaps = bench.entry("pipeline.window").get("value", 0)
    values: dict[str, Any] = {"latency": max(whole(latency), 0 if overlaps else 1)}
    if probe.throughput:
        group = bench.time(probe.independent, probe.setup)
        copies = len(probe.independents)
        interval = group.value / copies
        text += f"; independent ones every {interval:.2f} ({group.spread:.1%})"
        if interval <= _LONGEST_FOR_SLOTS and bench.filler:
            try:
                slots = slots_of(bench, probe, interval)
            except Unsettled as problem:
                text += f"; slots are the base's: {problem}"
            else:
                text += f"; {slots:.2f} slots"
                if abs(slots - whole(slots)) <= _WHOLE and whole(slots) >= 1:
                    values["slots"] = whole(slots)
        if interval > _CHAINED * latency / copies:
            uses = occupied(
                bench, str(entry.get("uses", "")), interval, values.get("slots", entry.get("slots", 1))
            )
            if uses != entry.get("uses", ""):
                values["uses"] = uses
    bench.findings[key] = Finding(key, values, text)


def _measure_repeated(bench: Bench, probe: Probe, key: str, entry: Mapping[str, Any]) -> None:
    """What one takes after the other: it has no result, or drains the pipeline."""
    group = bench.time(
        probe.independent, probe.setup, copies=max(1, 24 // (probe.independent.count(";") + 1))
    )
    less = sum(bench.time(*_repeated(name)).value / len(_by_name(name).independents) for name in probe.less)
    cycles = (group.value / len(probe.independents) - less) / probe.per
    limit = _EXITS.get(probe.cost_class)
    if bench.host.under_hypervisor and limit is not None and cycles > limit:
        bench.missing[key] = (
            f"this computer is a virtual machine, and the instruction leaves it: {cycles:.0f} core cycles"
        )
        return
    text = f"one after the other every {cycles:.2f} ({group.spread:.1%} of {group.count})"
    if entry.get("serial"):
        bench.findings[key] = Finding(key, {"latency": max(whole(cycles), 1)}, text)
        return
    before, slots = str(entry.get("uses", "")), entry.get("slots", 1)
    uses = occupied(bench, before, cycles, slots)
    expected = max(expected_interval(bench, uses), slots / bench.width if bench.width else 0)
    if near(cycles, expected):
        values = {} if uses == before else {"uses": uses}
        bench.findings[key] = Finding(key, values, f"{text}, as latency and slots of the base say")
    elif not probe.others:
        bench.missing[key] = (
            f"one takes {cycles:.2f} core cycles, where the base's slots and pipes make it {expected:.2f}"
        )


def _by_name(cost_class: str) -> Probe:
    return next(probe for probe in REPEATED if probe.cost_class == cost_class)


def _repeated(cost_class: str) -> tuple[str, str]:
    probe = _by_name(cost_class)
    return probe.independent, probe.setup


def slots_of(bench: Bench, probe: Probe, interval: float) -> float:
    """Slots of dispatch of one instruction: what it adds among so much else that the front end holds them all."""
    fill = ceil(bench.width * interval * _FILL) + bench.width
    rest = [bench.filler[number % len(bench.filler)] for number in range(fill)]
    body = "; ".join("; ".join([*rest[: fill // 2], copy, *rest[fill // 2 :]]) for copy in probe.independents)
    series = bench.time(body, probe.setup, copies=1)
    around = 1  # the loop's own counting, one slot as it fuses with its branch
    return (series.value * bench.width - around) / len(probe.independents) - fill - probe.others


def occupied(bench: Bench, uses: str, interval: float, slots: int) -> str:
    """The base's pipes, and for how long one is occupied where the base does not explain the interval between copies.

    Of several pipes nobody can tell from an interval which one it is, so those stay.
    """
    words = _words(uses)
    if not words or (bench.width and interval <= _DISPATCH_BOUND * slots / bench.width):
        return uses
    if len(words) > 1 or near(interval, expected_interval(bench, uses)):
        return uses
    name = words[0][0]
    cycles = max(1, whole(interval * _pipes(bench, name)))
    return f"{name}*{cycles}" if cycles > 1 else name


def expected_interval(bench: Bench, uses: str) -> float:
    """Cycles between independent instructions by the pipes that they use; what groups have in common is left out."""
    taken: dict[str, int] = {}
    for name, cycles in _words(uses):
        taken[name] = taken.get(name, 0) + cycles
    return max((cycles / _pipes(bench, name) for name, cycles in taken.items()), default=0.0)


def near(cycles: float, expected: float) -> bool:
    """Whether a figure explains what was measured."""
    return abs(cycles - expected) <= max(_AS_EXPECTED, _AS_EXPECTED * expected)


def _words(uses: str) -> list[tuple[str, int]]:
    return [(word.partition("*")[0], int(word.partition("*")[2] or 1)) for word in uses.split()]


def _pipes(bench: Bench, name: str) -> int:
    """How many pipes a group has; a pipe is one."""
    return len(bench.base.get("groups", {}).get(name, (name,)))


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
