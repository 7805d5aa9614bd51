"""A comparison as one picture, of the charts that a page begins with."""

from __future__ import annotations

import io
from collections.abc import Mapping

from matplotlib.figure import Figure, SubFigure

from hvmx.comparison.outcome import Comparison, Outcome
from hvmx.cost import Profile
from hvmx.report import comparison_charts as charts

WIDTH, DOTS_PER_INCH = 12.0, 150

_WHOLE_RUN, _EACH_WITH_EXITS, _HEADS = 0.75, 1.0, 1.6
"""Inches of height."""


def comparison_picture(comparison: Comparison, profiles: Mapping[str, Profile]) -> bytes:
    """A PNG of outcomes, of which there is one at least; ``profiles`` are those of the runs, by the names that the runs have
    for them."""
    by_pair = ((guest, profile, comparison.of(guest, profile)) for guest, profile in comparison.pairs())
    pairs = [(guest, profile, outcomes) for guest, profile, outcomes in by_pair if outcomes]
    heights = [_height(outcomes) for _, _, outcomes in pairs]
    with charts.style():
        figure = Figure((WIDTH, sum(heights)), layout="constrained", dpi=DOTS_PER_INCH)
        parts = figure.subfigures(len(pairs), 1, height_ratios=heights, squeeze=False)[:, 0]
        for part, (guest, profile, outcomes) in zip(parts, pairs, strict=True):
            _draw(part, outcomes)
            of = profiles[profile]
            title = f"{charts.guest_title(guest)}, {of.name}: {of.processor}; {of.accuracy}"
            part.suptitle(title, x=0.01, ha="left", weight="bold", size=11)
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _height(outcomes: Mapping[str, Outcome]) -> float:
    right = _WHOLE_RUN + 0.2 * len(outcomes) + _EACH_WITH_EXITS * len(charts.with_exits(outcomes))
    return _HEADS + max(right, 0.1 * len(charts.timed(outcomes)) * (len(outcomes) + 1.2))


def _draw(figure: SubFigure, outcomes: Mapping[str, Outcome]) -> None:
    """Bars per operation on the left, the whole run on the right."""
    timed, exiting = charts.timed(outcomes), charts.with_exits(outcomes)
    *left, right = figure.subfigures(1, 2 if timed else 1, squeeze=False)[0]
    for part in left:
        charts.draw_ratios(part.subplots(), outcomes, _nowhere)
        _head(part, charts.PER_OPERATION, charts.way_keys(outcomes))
    rows = [_WHOLE_RUN + 0.2 * len(outcomes), *([0.4 + _EACH_WITH_EXITS * len(exiting)] if exiting else [])]
    run, *over_time = right.subfigures(len(rows), 1, height_ratios=rows, squeeze=False)[:, 0]
    charts.draw_run(run.subplots(), outcomes, _nowhere)
    _head(run, charts.WHERE, charts.part_keys(outcomes))
    for part in over_time:
        charts.draw_exits(part.subplots(len(exiting), sharex=True, squeeze=False)[:, 0], exiting, _nowhere)
        _head(part, charts.WHEN, charts.reason_keys(exiting))


def _nowhere(way: str, operation: str) -> str:
    """A picture has no links."""
    return ""


def _head(figure: SubFigure, title: str, keys: Mapping[str, str]) -> None:
    """A title, and below it the keys of the colours."""
    figure.legend(
        handles=charts.legend(keys), loc="outside upper left", ncols=4, handlelength=0.9, handleheight=0.9, columnspacing=1.2,
        title=title, alignment="left", title_fontproperties={"weight": "bold", "size": 9},
    )  # fmt: skip
