"""Progress of long work, on a terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

SOON = 1.0
"""Seconds of host time in which work that ends needs no bar."""


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Bars on standard error, where that is a terminal; they are gone when the work is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield bars


@contextmanager
def steps(what: str, total: int) -> Iterator[Callable[[object], None]]:
    """For work of steps that are alike: to be called after each, with anything.

    Where standard error is a terminal there is a bar with an estimate of the host time that is left, once the work has taken
    a while.
    """
    if not sys.stderr.isatty():
        yield lambda result: None
        return
    bar = _Bar(what, total)
    later = threading.Timer(SOON, bar.show)
    later.start()
    try:
        yield bar.step
    finally:
        later.cancel()
        later.join()
        bar.hide()


class _Bar:
    """One that is there when it is shown; steps are counted before, too."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._began = time.monotonic()
        self._ended = self._began
        """When the last step ended."""
        self._bars: Progress | None = None

    def show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
        from rich.text import Text

        left = self.left

        class Left(ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text(left())

        columns = (TextColumn(self._what), BarColumn(), MofNCompleteColumn(), Left())
        bars = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = bars.add_task(self._what, total=self._total, completed=self._done)
        bars.start()
        self._bars = bars

    def step(self, result: object) -> None:
        self._done += 1
        self._ended = time.monotonic()
        if self._bars is not None:
            self._bars.update(self._task, completed=self._done)

    def left(self) -> str:
        """As if the steps that are left took as long as those that have ended."""
        if not self._done:
            return ""
        each = (self._ended - self._began) / self._done
        seconds = max(0.0, (self._total - self._done) * each - (time.monotonic() - self._ended))
        return f"about {seconds:.0f} s left"

    def hide(self) -> None:
        if self._bars is not None:
            self._bars.stop()
