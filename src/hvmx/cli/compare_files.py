"""The files of ``hvmx compare``: the page, the picture and the trace that it writes, and the earlier comparison that it reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from hvmx.cli.outputs import Outputs
from hvmx.cli.status import Status
from hvmx.cli.table import print_table
from hvmx.comparison.ways import BY_NAME
from hvmx.cost import Profile

if TYPE_CHECKING:
    from hvmx.comparison.outcome import Comparison

HTML_OPTION = click.option(
    "--html", metavar="FILE", help="Write a page with charts, too, where each figure leads to what it is made of. "
    "Needs matplotlib: pip install 'hvmx[charts]'.",
)  # fmt: skip
PNG_OPTION = click.option(
    "--png", metavar="FILE", help="Write the charts as a picture, too. Needs matplotlib."
)  # fmt: skip
PERFETTO_OPTION = click.option(
    "--perfetto", metavar="FILE", help="Write what happened when, each way, for ui.perfetto.dev; its axis is guest cycles.",
)  # fmt: skip
DIFF_OPTION = click.option(
    "--diff",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="OLD.json",
    help="Print what is different from an earlier comparison, which --json has written, in place of the table.",
)


def files_output(
    stack: ExitStack, names: Mapping[str, str | None], inputs: Mapping[str, Path]
) -> Callable[[Comparison, Mapping[str, Profile]], None]:
    """The files by the names of their options, known to be writable before the work takes its time. What this gives writes
    them."""
    named: dict[str, str | int] = {option: name for option, name in names.items() if name is not None}
    for option in ("html", "png"):
        if option in named and find_spec("matplotlib") is None:
            raise click.UsageError(
                f"--{option}: charts are drawn by matplotlib, which is not installed: pip install 'hvmx[charts]'"
            )
    reports = Outputs(named, inputs).open(stack, None)[1]

    def write(comparison: Comparison, profiles: Mapping[str, Profile]) -> None:
        if "png" in reports and not comparison.outcomes:
            raise click.UsageError(f"--png: {named['png']}: there is nothing to draw, as no way could run")
        for option, report in reports.items():
            with report.written() as file:
                _WRITERS[option](file, comparison, profiles)

    return write


def _write_page(file: TextIO, comparison: Comparison, profiles: Mapping[str, Profile]) -> None:
    from hvmx.report.comparison_page import comparison_page

    file.write(comparison_page(comparison, profiles))


def _write_picture(file: TextIO, comparison: Comparison, profiles: Mapping[str, Profile]) -> None:
    from hvmx.report.comparison_picture import comparison_picture

    file.buffer.write(comparison_picture(comparison, profiles))


def _write_trace(file: TextIO, comparison: Comparison, profiles: Mapping[str, Profile]) -> None:
    from hvmx.report.perfetto import Timeline, write_trace

    timelines = [
        Timeline(f"{run.guest}, {BY_NAME[run.way].title}, {run.profile}", *run.timeline)
        for run in comparison
        if run.timeline is not None
    ]
    for timeline in timelines:
        if timeline.dropped:
            click.echo(f"--perfetto: {timeline.name}: {timeline.dropped:,} later events had no room", err=True)
    write_trace(file.buffer, timelines)


_WRITERS = {"html": _write_page, "png": _write_picture, "perfetto": _write_trace}


class Earlier:
    """The earlier comparison, in the file of --diff. BadParameter where that is none."""

    def __init__(self, path: Path) -> None:
        from hvmx.report.comparison_diff import NotAComparison, figures_by_run

        self._path = path
        try:
            self._figures = figures_by_run(json.loads(path.read_text()))
        except OSError as problem:
            raise self._bad(f"cannot be read: {problem.strerror}") from problem
        except NotAComparison as problem:
            raise self._bad(str(problem)) from problem
        except (ValueError, RecursionError) as problem:
            raise self._bad(f"is not JSON ({problem})") from problem

    def print_differences(self, now: Mapping[str, Any]) -> Status:
        """What is different now, as ``comparison_json`` has it. BadParameter where the file has no such runs."""
        from hvmx.report.comparison_diff import NotAComparison, differences, differences_table, figures_by_run

        try:
            found = differences(self._figures, figures_by_run(now))
        except NotAComparison as problem:
            raise self._bad(str(problem)) from problem
        if not found:
            click.echo(f"No figure is different from {self._path}.")
            return Status.GOOD
        print_table(differences_table(found, str(self._path)))
        return Status.DIFFERENT

    def _bad(self, problem: str) -> click.BadParameter:
        return click.BadParameter(f"{self._path}: {problem}", param_hint="--diff")
