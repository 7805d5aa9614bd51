"""What the exit tables show: the columns of perf kvm stat, in 80 columns, and guest cycles apart from host time."""

from __future__ import annotations

import pytest
from rich.table import Table
from tables import assert_fits_80_columns, printed

from hvmx.cli import Status, main
from hvmx.exits import OTHERS, ExitReason, Statistic
from hvmx.report.exit_table import (
    DETAILS_SHOWN,
    exit_table,
    host_time_table,
    hypercall_table,
    hypercall_time_table,
)

PORTS = {
    0x60 + number: Statistic(10 - number, 1000, 90, 110, 5000, 400, 900) for number in range(DETAILS_SHOWN + 2)
}
STATISTICS = {
    ExitReason.IO_INSTRUCTION: Statistic(75, 7500, 50, 200, 150_000, 1_000, 30_000, PORTS),
    ExitReason.MSR_WRITE: Statistic(
        20, 2000, 100, 100, 3_000, 150, 150, {0xC0000080: Statistic(20, 2000, 100, 100, 3_000, 150, 150)}
    ),
    ExitReason.CPUID: Statistic(5, 500, 100, 100, 2_500_000_000, 1, 2_499_000_000),
}


def text_of(table: Table) -> list[str]:
    return printed(table).splitlines()


def heads(table: Table) -> list[str]:
    return [str(column.header) for column in table.columns]


def rows(table: Table) -> dict[str, list[str]]:
    """The cells of each row by its name; no two are called the same here."""
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    return {name.strip(): list(cells) for name, *cells in zip(*columns, strict=True)}


def ports(count: int, each: int = 1) -> dict[int, Statistic]:
    return {number: Statistic(each, 100 * each, 100, 100, each, 1, 1) for number in range(count)}


def reason_with(details: dict[int, Statistic]) -> Statistic:
    count = sum(row.count for row in details.values())
    return Statistic(count, 100 * count, 100, 100, count, 1, 1, details)


def test_columns_are_those_of_perf() -> None:
    assert heads(exit_table(STATISTICS)) == [
        "VM-EXIT", "Samples", "Samples%", "Cycles%", "Min cycles", "Max cycles", "Avg cycles",
    ]  # fmt: skip


def test_guest_cycles_and_host_time_share_no_table() -> None:
    cycles, host = exit_table(STATISTICS), host_time_table(STATISTICS)
    assert not [line for line in text_of(cycles) if "ost" in line or " s" in line]
    assert not [line for line in text_of(host) if "ycles" in line]
    assert heads(host) == ["VM-EXIT", "Samples", "Host time", "Time%", "Min host", "Max host", "Avg host"]


def test_a_reason_has_its_counts_shares_and_extremes() -> None:
    assert rows(exit_table(STATISTICS))["IO_INSTRUCTION"] == ["75", "75.00%", "75.00%", "50", "200", "100.0"]
    host = rows(host_time_table(STATISTICS))
    assert host["IO_INSTRUCTION"] == ["75", "150.00 us", "0.01%", "1.00 us", "30.00 us", "2.00 us"]
    assert host["CPUID"] == ["5", "2.50 s", "99.99%", "1 ns", "2.50 s", "500.00 ms"]


def test_details_stand_below_their_reason_the_most_frequent_first() -> None:
    names = [*rows(exit_table(STATISTICS))]
    start = names.index("IO_INSTRUCTION") + 1
    assert names[start : start + DETAILS_SHOWN] == [f"port {0x60 + n:#x}" for n in range(DETAILS_SHOWN)]
    assert names[start + DETAILS_SHOWN] == "+ 2 more ports"
    assert names[names.index("MSR_WRITE") + 1] == "MSR 0xc0000080"


def test_what_is_left_out_is_counted_and_added_up() -> None:
    table = rows(exit_table(STATISTICS))
    details = [cells for name, cells in table.items() if name.startswith("port") or "ports" in name]
    assert len(details) == DETAILS_SHOWN + 1
    assert sum(int(cells[0]) for cells in details) == sum(row.count for row in PORTS.values())
    assert table["+ 2 more ports"] == ["7", "7.00%", "20.00%", "90", "110", "285.7"]


def test_pages_that_were_touched_once_do_not_crowd_out_the_rest() -> None:
    table = rows(
        exit_table(
            {
                ExitReason.EPT_VIOLATION: reason_with({0x1000 * n: Statistic(*[1] * 7) for n in range(412)}),
                ExitReason.IO_INSTRUCTION: reason_with(ports(2, 100)),
            }
        )
    )
    assert [*table] == ["EPT_VIOLATION", "412 pages", "IO_INSTRUCTION", "port 0x0", "port 0x1", "all"]
    assert table["412 pages"][0] == "412"


def test_one_that_would_be_left_out_alone_is_shown() -> None:
    details = {**ports(1, 10_000), 9: Statistic(*[1] * 7)}
    names = [*rows(exit_table({ExitReason.IO_INSTRUCTION: reason_with(details)}))]
    assert names == ["IO_INSTRUCTION", "port 0x0", "port 0x9", "all"]


def test_a_rare_exit_that_takes_much_time_is_shown() -> None:
    details = {**ports(10, 1000), 99: Statistic(1, 100_000_000, *[100_000_000] * 2, 1, 1, 1)}
    whole = Statistic(10_001, 101_000_000, 100, 100_000_000, 1, 1, 1, details)
    others = Statistic(10_000_000, 1_000_000, 1, 1, 1, 1, 1)
    names = [*rows(exit_table({ExitReason.CPUID: others, ExitReason.IO_INSTRUCTION: whole}))]
    assert "port 0x63" in names and "+ 10 more ports" in names


def test_the_last_row_adds_up() -> None:
    assert rows(exit_table(STATISTICS))["all"] == ["100", "100.00%", "100.00%", "50", "200", "100.0"]
    assert "Exits: 100, which took 10,000 guest cycles" in text_of(exit_table(STATISTICS))[0]
    assert rows(host_time_table(STATISTICS))["all"][:3] == ["100", "2.50 s", "100.00%"]


def test_what_came_too_late_to_be_told_apart_is_called_others() -> None:
    one = (1, 1, 1, 1, 1, 1, 1)
    others = {ExitReason.EPT_VIOLATION: Statistic(*one, {OTHERS: Statistic(*one)})}
    assert "others" in rows(exit_table(others))


@pytest.mark.parametrize("size", [1 << 15, 10**7, 10**10, 2**64 - 1])
def test_tables_fit_80_columns_whatever_the_figures(size: int) -> None:
    figures = (size,) * 4 + (min(size, 10**15),) * 3
    one = [max(1, figure >> 15) for figure in figures]
    pages = {(1 << 40) - 0x1000 * (n + 1): Statistic(*one) for n in range(1 << 15)}
    large = {reason: Statistic(*figures) for reason in ExitReason}
    large[ExitReason.EPT_VIOLATION] = Statistic(*figures, pages)
    for table in (exit_table(large), host_time_table(large)):
        assert_fits_80_columns(printed(table))


def test_a_figure_without_room_is_rounded_with_its_unit() -> None:
    large = {ExitReason.CPUID: Statistic(12_345_678, 10**12, 1, 1_234_567_890, 10**18, 1, 10**12)}
    table = rows(exit_table(large))
    assert table["CPUID"] == ["12.35 M", "100.00%", "100.00%", "1", "1.23 G", "81,000.0"]


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_a_run_says_it_in_80_columns_on_every_terminal(
    columns: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["run", "test-hvm64-pgfault"]) == Status.GOOD
    tables = capfd.readouterr().err.split("\nExits: ")[1].split(" guest cycles, ")[0].splitlines()[:-1]
    assert [line.split()[0] for line in tables if line.startswith(("VM-EXIT", "all"))] == ["VM-EXIT", "all"] * 2
    assert_fits_80_columns("\n".join(tables))


# --- hypercalls -----------------------------------------------------------------------------------------------------------
CALLS = {
    "sched_op": Statistic(30, 6000, 150, 300, 6000, 100, 400, {
        0: Statistic(10, 1500, 150, 150, 2000, 100, 300), 1: Statistic(20, 4500, 150, 300, 4000, 150, 400),
    }),
    "iret": Statistic(70, 10500, 150, 150, 3500, 50, 50),
}  # fmt: skip


def test_hypercalls_have_the_columns_of_exits_and_name_their_sub_operations() -> None:
    table = hypercall_table(CALLS)
    assert heads(table) == ["HYPERCALL", *heads(exit_table(STATISTICS))[1:]]
    found = rows(table)
    assert found["sched_op"] == ["30", "30.00%", "36.36%", "150", "300", "200.0"]
    assert found["block"] == ["20", "20.00%", "27.27%", "150", "300", "225.0"]
    assert found["yield"][0] == "10" and found["all"][0] == "100"


def test_host_time_of_hypercalls_stands_in_a_table_of_its_own() -> None:
    host = hypercall_time_table(CALLS)
    assert rows(host)["iret"] == ["70", "3.50 us", "36.84%", "50 ns", "50 ns", "50 ns"]
    assert not [line for line in text_of(host) if "ycles" in line]
    assert not [line for line in text_of(hypercall_table(CALLS)) if "ost" in line]
