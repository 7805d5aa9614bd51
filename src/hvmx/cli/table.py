"""Tables on a terminal."""

from __future__ import annotations

from typing import Any


def print_table(table: Any, err: bool = False) -> None:
    """Brackets in what it says, such as [exits], are themselves and no markup."""
    from rich.console import Console

    from hvmx.report.plain_table import print_whole

    print_whole(Console(stderr=err, highlight=False, markup=False), table)
