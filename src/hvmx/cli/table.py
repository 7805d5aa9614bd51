"""Tables on a terminal."""

from __future__ import annotations

from typing import Any


def print_table(table: Any, err: bool = False) -> None:
    from rich.console import Console

    from hvmx.report.plain_table import print_whole

    print_whole(Console(stderr=err, highlight=False), table)
