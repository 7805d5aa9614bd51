"""The charts of a comparison, drawn by matplotlib: in figures of their own for a page, or all in one picture.

In a page what is drawn says what it is when it is pointed at, and leads to its explanation: both are notes on the
artists, which ``report/inline_svg.py`` finds in the SVG.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator, NullLocator, StrMethodFormatter

from hvmx import guests
from hvmx.comparison.ledger import Item, Part, by_part
from hvmx.comparison.outcome import Outcome
from hvmx.comparison.over_time import HYPERCALLS
from hvmx.comparison.runs import BUNDLED
from hvmx.comparison.ways import BY_NAME, WAYS
from hvmx.cost import FRACTION
from hvmx.report.comparison import factor, ratios

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Link = Callable[[str, str], str]
"""Where the explanation of a way and an operation is, or with an empty operation that of the whole run."""

PER_OPERATION = "Guest cycles per operation"
WHERE = "Where the guest cycles of the whole run went"
WHEN = "When the guest left for the hypervisor"
"""Titles of the charts."""

TIMES = "\N{MULTIPLICATION SIGN}"

INK, LINES = "#24292f", "#d0d7de"
"""Of text, and of what only guides the eye: a page has its own in their place."""

WAY_COLOURS = dict(zip(
    (way.name for way in WAYS), cycle(("#0072b2", "#d55e00", "#009e73", "#8c959f", "#cc79a7", "#e69f00")),
))  # fmt: skip
"""By M. Okabe and K. Ito, who chose colours that the colour-blind tell apart; native is grey."""

PART_COLOURS = dict(zip(
    Part,
    ("#9aa4ae", "#e3b341", "#a67c52", "#8e6bbf", "#c9364a", "#149a9a", "#7fd1c4", "#d98cb3", "#cdd5dd"),
    strict=True,
))  # fmt: skip

REASON_COLOURS = ("#c9364a", "#e8894a", "#e3b341", "#8e6bbf", "#5b8c3e")
OTHER_REASONS = "other exits"
OTHERS_COLOUR = "#9aa4ae"

_LEAST = 0.8
"""Where the axis of ratios begins: the cheapest way, at 1, is seen too."""

_LABELS = 0.36
"""The part of the axes' width that the figures behind the bars have."""


@contextmanager
def style() -> Iterator[None]:
    """Text stays text, and the same comparison gives the same file."""
    with matplotlib.rc_context({
        "svg.fonttype": "none", "svg.hashsalt": "hvmx", "font.size": 8, "axes.titlesize": 9, "axes.titleweight": "bold",
        "axes.titlelocation": "left", "text.color": INK, "axes.labelcolor": INK, "axes.titlecolor": INK,
        "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": LINES, "grid.color": LINES, "grid.linewidth": 0.6,
        "axes.axisbelow": True, "legend.frameon": False, "legend.fontsize": 8, "axes.spines.top": False,
        "axes.spines.right": False, "axes.spines.left": False, "ytick.left": False, "figure.dpi": 72,
    }):  # fmt: skip
        yield


def note(artist: Artist, says: str, link: str = "") -> None:
    """What a page says of it when it is pointed at, and where it leads."""
    artist.set_gid(says)
    if link:
        artist.set_url(link)


def way_keys(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """Colours of ways, by what they are called."""
    return {BY_NAME[way].title: WAY_COLOURS[way] for way in outcomes}


def part_keys(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """Colours of the parts that there are, by name."""
    there = {item.part for outcome in outcomes.values() for item in outcome.ledger}
    return {part.value: PART_COLOURS[part] for part in Part if part in there}


def reason_keys(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """Colours of hypercalls and of the reasons of exits, by name: of the most frequent ones of all ways."""
    sums: dict[str, int] = {}
    for outcome in outcomes.values():
        for reason, row in outcome.exits_over_time.counts.items():
            sums[reason] = sums.get(reason, 0) + sum(row)
    keys = {HYPERCALLS: PART_COLOURS[Part.HYPERCALLS]} if sums.pop(HYPERCALLS, 0) else {}
    frequent = sorted(sums, key=lambda reason: -sums[reason])
    keys |= dict(zip(frequent, REASON_COLOURS))
    return keys | ({OTHER_REASONS: OTHERS_COLOUR} if len(frequent) > len(REASON_COLOURS) else {})


def guest_title(guest: str) -> str:
    return "bundled guest" if guest == BUNDLED else guest


def legend(keys: Mapping[str, str]) -> list[Patch]:
    return [Patch(color=colour, label=name) for name, colour in keys.items()]


def timed(outcomes: Mapping[str, Outcome]) -> list[str]:
    """The operations that any of the runs timed, in the guest's order."""
    return [name for name in guests.WORKLOADS if any(name in outcome.operations for outcome in outcomes.values())]


# --- guest cycles per operation -----------------------------------------------------------------------------------------
def draw_ratios(axes: Axes, outcomes: Mapping[str, Outcome], link: Link) -> None:
    """A group of bars for each operation: how many times the guest cycles of the cheapest way each way takes."""
    operations, ways = timed(outcomes), list(outcomes)
    step = len(ways) + 1.2
    by_operation = {operation: ratios(outcomes, operation) for operation in operations}
    most = max(ratio for by_way in by_operation.values() for ratio in by_way.values())
    axes.set_xscale("log")
    axes.set_xlim(_LEAST, _LEAST * (max(most, 10) / _LEAST) ** (1 / (1 - _LABELS)))
    for place, operation in enumerate(operations):
        for line, way in enumerate(ways):
            y = place * step + line
            if way not in by_operation[operation]:
                axes.text(_LEAST * 1.04, y, "not available", va="center", size=6.5, style="italic", alpha=0.7)
                continue
            ratio, each = by_operation[operation][way], outcomes[way].operations[operation].cycles_each
            (bar,) = axes.barh(y, ratio - _LEAST, left=_LEAST, height=0.92, color=WAY_COLOURS[way])
            what = f"{operation}, {BY_NAME[way].title}"
            note(bar, f"{what}: {each:,.1f} guest cycles, {factor(ratio)} times the cheapest", link(way, operation))
            axes.text(
                ratio * 1.07, y, f"{each:,.0f}  {TIMES} {factor(ratio)}", va="center", size=7,
                weight="bold" if factor(ratio) == "1.00" else "normal",
            )  # fmt: skip
    axes.axvline(1, color=INK, linewidth=0.7)
    middle = (len(ways) - 1) / 2
    axes.set_yticks([place * step + middle for place in range(len(operations))], operations)
    axes.set_ylim(len(operations) * step - 0.6, -1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{TIMES} {ratio:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks([10.0**power for power in range(int(np.log10(max(most, 10))) + 1)])
    axes.grid(axis="x")
    axes.set_xlabel("multiples of the cheapest way (logarithmic)")


# --- where guest cycles went --------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Bar:
    name: str
    items: tuple[Item, ...]
    count: int
    total: float
    """Guest cycles of one, as other reports have it."""


def draw_run(axes: Axes, outcomes: Mapping[str, Outcome], link: Link) -> None:
    """Where the guest cycles of the whole run went, a bar for each way."""
    bars = {way: _Bar(BY_NAME[way].title, run.ledger, 1, run.guest_cycles) for way, run in outcomes.items()}
    _draw_parts(axes, bars, "", link)
    axes.set_xlabel("guest cycles of the whole run")


def draw_operation(axes: Axes, outcomes: Mapping[str, Outcome], operation: str, link: Link) -> None:
    """Where those of one operation went."""
    there = {way: run.operations[operation] for way, run in outcomes.items() if operation in run.operations}
    bars = {way: _Bar(way, found.ledger, found.count, found.cycles_each) for way, found in there.items()}
    _draw_parts(axes, bars, operation, link)
    axes.set_title(operation)


def _draw_parts(axes: Axes, bars: Mapping[str, _Bar], operation: str, link: Link) -> None:
    """Stacked bars; what is less than nothing, where the loop alone was taken off, is left of it."""
    most = max(bar.total for bar in bars.values())
    for y, (way, bar) in enumerate(bars.items()):
        what = f"{operation}, {BY_NAME[way].title}".removeprefix(", ")
        ends = {True: 0.0, False: 0.0}
        for part, units in by_part(bar.items).items():
            each = units / FRACTION / bar.count
            (drawn,) = axes.barh(y, each, left=ends[each > 0], height=0.8, color=PART_COLOURS[part])
            ends[each > 0] += each
            note(drawn, f"{what}: {part.value}, {each:,.1f} guest cycles of {bar.total:,.1f}", link(way, operation))
        axes.text(ends[True] + most / 50, y, f"{bar.total:,.0f}", va="center", size=7)
    axes.set_yticks(range(len(bars)), [bar.name for bar in bars.values()])
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlim(right=most * 1.24)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.grid(axis="x")


# --- exits over the run -------------------------------------------------------------------------------------------------
def with_exits(outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """Those of the ways that have any exits or hypercalls."""
    return {way: outcome for way, outcome in outcomes.items() if outcome.exits_over_time.counts}


def draw_exits(axes: Iterable[Axes], outcomes: Mapping[str, Outcome], link: Link) -> None:
    """For each way, on axes of its own: exits and hypercalls by slices of the run's guest cycles."""
    keys = reason_keys(outcomes)
    below_each_other = list(axes)
    for ax, (way, outcome) in zip(below_each_other, with_exits(outcomes).items(), strict=True):
        over_time = outcome.exits_over_time
        slices = len(next(iter(over_time.counts.values())))
        edges = np.minimum(np.arange(slices + 1) * over_time.slice_cycles, outcome.guest_cycles)
        below = np.zeros(slices)
        for reason, colour in keys.items():
            rows = [
                row for name, row in over_time.counts.items() if reason == (name if name in keys else OTHER_REASONS)
            ]
            if rows:
                above = below + np.sum(rows, axis=0)
                steps = ax.stairs(above, edges, baseline=below, fill=True, color=colour)
                says = f"{BY_NAME[way].title}: {reason}, {np.sum(rows):,} in the whole run"
                note(steps, says, link(way, ""))
                below = above
        title = f"{BY_NAME[way].title}: in each {over_time.slice_cycles:,} guest cycles"
        ax.set_title(title, weight="normal", size=8)
        ax.set_xlim(0, max(other.guest_cycles for other in outcomes.values()))
        ax.set_ylim(bottom=0)
        ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        ax.xaxis.set_major_formatter(EngFormatter(sep=" "))
        ax.grid(axis="y")
    below_each_other[-1].set_xlabel("guest cycles since the start")
