"""What has changed since an earlier comparison, which ``hvmx compare --json`` has written. Host time is no part of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from hvmx.report.comparison import FORMAT
from hvmx.report.plain_table import plain_table

END = "end"
"""How a run ended, in words; of a run that there was none of, why."""


class NotAComparison(ValueError):
    """The earlier one cannot be compared with; the message says why."""


@dataclass(frozen=True)
class Run:
    """Guest, profile and way."""

    guest: str
    profile: str
    way: str

    def __str__(self) -> str:
        return f"{self.guest}, {self.profile}, {self.way}"


Figure = float | str | None


@dataclass(frozen=True)
class Difference:
    """A figure that is another one now; None where there is none."""

    run: Run
    figure: str
    before: Figure
    now: Figure

    @property
    def change(self) -> float | None:
        """By which part of itself it has grown; None where that is no number."""
        if isinstance(self.before, (int, float)) and isinstance(self.now, (int, float)) and self.before:
            return self.now / self.before - 1
        return None


def figures_by_run(data: object) -> dict[Run, dict[str, Figure]]:
    """What is compared, out of what ``comparison_json`` gives. ``NotAComparison`` where it is something else."""
    if not isinstance(data, Mapping) or "outcomes" not in data or "format" not in data:
        raise NotAComparison("is not what `hvmx compare --json` writes")
    if data["format"] != FORMAT:
        raise NotAComparison(f"has format {data['format']!r}; this version reads format {FORMAT}")
    try:
        return {
            **{_run(refusal): {END: f"not run: {refusal['why']}"} for refusal in data["refusals"]},
            **{_run(outcome): dict(_figures(outcome)) for outcome in data["outcomes"]},
        }
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise NotAComparison(f"is not what `hvmx compare --json` writes ({problem!r})") from problem


def _run(data: Mapping[str, Any]) -> Run:
    return Run(str(data["guest"]), str(data["profile"]), str(data["way"]))


def _figures(outcome: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    yield END, str(outcome["end"])
    for name, operation in outcome["operations"].items():
        yield f"{name}: guest cycles", float(operation["guest_cycles_each"])
        yield f"{name}: how many", int(operation["count"])
    for name, total in outcome["totals"].items():
        yield f"whole run: {name.replace('_', ' ')}", int(total)
    parts: dict[str, float] = {}
    for item in outcome["ledger"]:
        parts[item["part"]] = parts.get(item["part"], 0.0) + item["guest_cycles"]
    for part, cycles in parts.items():
        yield f"guest cycles: {part}", round(cycles, 3)
    for kind in ("exits", "hypercalls"):
        for name, row in outcome[kind].items():
            yield f"{kind}: {name}", int(row["count"])
    for place, count in (outcome["caches"] or {}).items():
        yield f"caches: {place}", int(count)


def differences(before: Mapping[Run, Mapping[str, Figure]], now: Mapping[Run, Mapping[str, Figure]]) -> list[Difference]:
    """Of the runs that there are now. ``NotAComparison`` where there was no such run."""
    if missing := [run for run in now if run not in before]:
        raise NotAComparison(f"has no run of {missing[0]}: there are {'; '.join(map(str, before)) or 'none'}")
    return [
        Difference(run, figure, before[run].get(figure), found.get(figure))
        for run, found in now.items()
        for figure in _compared(before[run], found)
        if before[run].get(figure) != found.get(figure)
    ]


def _compared(before: Mapping[str, Figure], now: Mapping[str, Figure]) -> Iterable[str]:
    """All figures of two runs; of one and none, that."""
    return dict.fromkeys([*before, *now]) if len(before) > 1 and len(now) > 1 else (END,)


def differences_table(found: Iterable[Difference], earlier: str) -> Table:
    """A row for each figure, below its run."""
    table = plain_table(f"What is different from {earlier}; guest cycles are those of one operation or of the whole run")
    table.add_column("Figure", no_wrap=True)
    for heading in ("Before", "Now", "Change"):
        table.add_column(heading, justify="right", no_wrap=True)
    shown = None
    for it in found:
        if it.run != shown:
            table.add_row(f"{it.run}:", style="bold")
            shown = it.run
        change = "" if it.change is None else f"{it.change:+.2%}"
        table.add_row(f"  {it.figure}", _text(it.before), _text(it.now), change)
    return table


def _text(figure: Figure) -> str:
    if figure is None or isinstance(figure, str):
        return figure or "-"
    return f"{figure:,.3f}" if isinstance(figure, float) else f"{figure:,}"
