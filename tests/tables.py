"""Tables as a person sees them."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from hvmx.report.plain_table import print_whole


def printed(*tables: Table, width: int = 80) -> str:
    """As the command line prints them: rich would fold a table that is too wide for the terminal, so that it never showed."""
    out = io.StringIO()
    for table in tables:
        print_whole(Console(file=out, width=width, color_system=None, highlight=False, markup=False), table)
    return out.getvalue()


def assert_fits_80_columns(text: str) -> None:
    wide = [line for line in text.splitlines() if len(line) > 80]
    assert not wide, "wider than 80 columns:\n" + "\n".join(wide)
