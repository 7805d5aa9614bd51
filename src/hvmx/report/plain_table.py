"""The look of all tables: no lines, a title above and a caption below on the left; and how they are printed."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def plain_table(title: str, caption: str | None = None) -> Table:
    return Table(
        title=title,
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def print_whole(console: Console, table: Table) -> None:
    """However narrow the terminal, nothing is cut off."""
    console.width = max(console.width, table.__rich_measure__(console, console.options.update(width=300)).maximum)
    console.print(table)
