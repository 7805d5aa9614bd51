"""What the exit table shows: the columns of perf kvm stat, and guest cycles apart from host time."""

from __future__ import annotations

import io

from rich.console import Console

from hvmx.exits import OTHERS, ExitReason, ExitStatistic
from hvmx.report.exit_table import DETAILS_SHOWN, exit_table

PORTS = {
    0x60 + number: ExitStatistic(10 - number, 1000, 90, 110, 5000, 400, 900) for number in range(DETAILS_SHOWN + 2)
}
STATISTICS = {
    ExitReason.IO_INSTRUCTION: ExitStatistic(75, 7500, 50, 200, 150_000, 1_000, 30_000, PORTS),
    ExitReason.MSR_WRITE: ExitStatistic(
        20, 2000, 100, 100, 3_000, 150, 150, {0xC0000080: ExitStatistic(20, 2000, 100, 100, 3_000, 150, 150)}
    ),
    ExitReason.CPUID: ExitStatistic(5, 500, 100, 100, 2_500_000_000, 1, 2_499_000_000),
}


def lines() -> list[list[str]]:
    """The table's lines, cut at columns."""
    out = io.StringIO()
    Console(file=out, width=200).print(exit_table(STATISTICS))
    return [[cell for cell in line.split("  ") if cell.strip()] for line in out.getvalue().splitlines()]


def row(name: str) -> list[str]:
    (cells,) = ([cell.strip() for cell in line[1:]] for line in lines() if line and line[0].strip() == name)
    return cells


def test_columns_are_those_of_perf_and_host_time_says_so() -> None:
    heads = [cell.strip() for cell in lines()[1]]
    assert heads[:3] == ["VM-EXIT", "Samples", "Samples%"]
    assert [head for head in heads if "ime" in head] == ["Host time"]
    assert [head for head in heads if "host" in head] == ["Min host", "Max host", "Avg host"]
    assert [head for head in heads if "ycles" in head] == [
        "Guest cycles", "Cycles%", "Min cycles", "Max cycles", "Avg cycles",
    ]  # fmt: skip


def test_a_reason_has_its_counts_shares_and_extremes() -> None:
    assert row("IO_INSTRUCTION") == [
        "75", "75.00%", "7,500", "75.00%", "50", "200", "100.0", "150.00 us", "1.00 us", "30.00 us", "2.00 us",
    ]  # fmt: skip
    assert row("CPUID")[-2:] == ["2.50 s", "500.00 ms"]


def test_details_stand_below_their_reason_the_most_frequent_first() -> None:
    names = [line[0].strip() for line in lines() if line]
    start = names.index("IO_INSTRUCTION") + 1
    assert names[start : start + DETAILS_SHOWN] == [f"port {0x60 + n:#x}" for n in range(DETAILS_SHOWN)]
    assert names[start + DETAILS_SHOWN] == "and 2 more"
    assert names[names.index("MSR_WRITE") + 1] == "MSR 0xc0000080"


def test_the_last_row_adds_up() -> None:
    assert row("all") == ["100", "10,000", "2.50 s"]


def test_what_came_too_late_to_be_told_apart_is_called_others() -> None:
    one = (1, 1, 1, 1, 1, 1, 1)
    others = {ExitReason.EPT_VIOLATION: ExitStatistic(*one, {OTHERS: ExitStatistic(*one)})}
    out = io.StringIO()
    Console(file=out, width=200).print(exit_table(others))
    assert "others" in out.getvalue()
