"""Tables on a terminal."""

from __future__ import annotations

from typing import Any


def print_table(table: Any, err: bool = False) -> None:
    from rich.console import Console

    console = Console(stderr=err, highlight=False)
    # However narrow the terminal, no number is cut off.
    console.width = max(
        console.width, table.__rich_measure__(console, console.options.update(width=300)).maximum
    )
    console.print(table)
