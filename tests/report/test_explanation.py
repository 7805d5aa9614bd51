"""`hvmx compare --explain` answers why a figure is what it is, by itself."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from tables import assert_fits_80_columns, printed

from hvmx import guests
from hvmx.cli import Status, main
from hvmx.comparison.outcome import Comparison
from hvmx.cost import load_profile
from hvmx.report.comparison import comparison_csv, comparison_table
from hvmx.report.explanation import explanation

SKYLAKE = load_profile("skylake")

Explained = Callable[[str], str]


@pytest.fixture(scope="module")
def explained(comparison: Comparison) -> Explained:
    """What is said of an operation of the bundled guest."""
    return lambda operation: printed(explanation(SKYLAKE, comparison.of(), operation))


@pytest.mark.parametrize("operation", ["fork-wait", "port-out"])
def test_the_command_prints_the_explanation_of_what_it_is_asked_for_and_no_other(
    operation: str, explained: Explained, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "--explain", operation]) == Status.GOOD
    said = capfd.readouterr().out
    assert said == explained(operation) + "\n"
    assert "syscall:" not in said


def test_the_command_prints_the_table_and_the_csv_that_are_explained(
    comparison: Comparison, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare"]) == Status.GOOD
    assert capfd.readouterr().out.endswith("\n\n" + printed(comparison_table(SKYLAKE, comparison.of())) + "\n")
    assert main(["compare", "--csv"]) == Status.GOOD
    assert capfd.readouterr().out == comparison_csv(comparison)


@pytest.mark.parametrize("operation", list(guests.WORKLOADS))
def test_an_explanation_fits_80_columns_and_says_what_the_operation_is(operation: str, explained: Explained) -> None:
    text = explained(operation)
    assert_fits_80_columns(text)
    assert re.sub(r"\s+", " ", text).startswith(f"{operation}: {guests.WORKLOADS[operation].does}")


@pytest.mark.parametrize("operation", ["pgfault", "fork-wait"])
def test_the_rows_of_each_way_add_up_to_its_figure(operation: str, explained: Explained) -> None:
    rows: dict[str, tuple[float, list[float]]] = {}
    way = ""
    for line in explained(operation).split("cycles price")[1].splitlines():
        found = re.search(r"(-?[\d,]+\.\d)\s*(?:\[\d+\])?\s*$", line)
        if line.startswith("[1]"):
            break
        if found is None:
            continue
        cycles = float(found[1].replace(",", ""))
        if line.startswith(" "):
            rows[way][1].append(cycles)
        else:
            way = line.split("  ")[0]
            rows[way] = (cycles, [])
    assert set(rows) >= {"HVM, nested paging", "HVM, shadow paging", "PV"}
    for way, (total, parts) in rows.items():
        assert sum(parts) == pytest.approx(total, abs=0.06 * len(parts)), way


def test_every_price_says_its_line_its_mark_and_its_source(explained: Explained) -> None:
    text = explained("port-in")
    legend = re.findall(r"^\[(\d+)\] ([\w.-]+), (\w+)", text, re.MULTILINE)
    assert len(legend) > 3
    for _, line, mark in legend:
        assert SKYLAKE.written[line].mark.value == mark
    assert [int(number) for number, _, _ in legend] == list(range(1, len(legend) + 1))
    assert text.count("Linux commit b7ffc44d5b2e") == 1, "a source has its title once"


def test_figures_of_one_line_of_the_profile_have_one_number(explained: Explained) -> None:
    text = explained("timer-tick")
    assert len(re.findall(r"^\[\d+\] exits.default,", text, re.MULTILINE)) == 1
    assert "exit: EXTERNAL_INTERRUPT" in text and "exit: IO_INSTRUCTION port 0x20" in text


def test_it_says_for_which_prices_another_way_would_win(explained: Explained) -> None:
    text = re.sub(r"\s+", " ", explained("port-out"))
    assert "PV wins among the ways that have a hypervisor. It stays so with every assumed figure" in text
    assert re.search(r"With paravirtual\.emulation \(now 400, assumed\) above [\d,]+ guest cycles HVM, nested paging would win", text)


def test_it_explains_the_figures_of_the_table(comparison: Comparison, explained: Explained) -> None:
    figures = {
        row.split(",")[2]: float(row.split(",")[5])
        for row in comparison_csv(comparison).splitlines()
        if ",fork-wait," in row
    }
    text = explained("fork-wait")
    assert "syscall:" not in text
    for way, title in (("ept", "HVM, nested paging"), ("pv", "PV")):
        (shown,) = re.findall(rf"^{title} +([\d,.]+) *$", text, re.MULTILINE)
        assert float(shown.replace(",", "")) == pytest.approx(figures[way], abs=0.06)


def test_a_row_whose_winner_hangs_on_assumed_figures_says_so_in_the_table(
    comparison: Comparison, explained: Explained
) -> None:
    table = printed(comparison_table(SKYLAKE, comparison.of()))
    starred = re.findall(r"^([\w-]+) \*", table, re.MULTILINE)
    assert starred and "syscall" not in starred
    assert "*: which way wins hangs on assumed figures" in table
    for operation in starred:
        said = re.sub(r"\s+", " ", explained(operation))
        found = re.search(r"That hangs on assumed figures: with .* it takes ([\d,]+), and .*? ([\d,]+)\.", said)
        assert found is not None
        assert int(found[1].replace(",", "")) >= int(found[2].replace(",", "")), "then the other is cheaper"


def test_several_profiles_stand_one_after_the_other(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--profile", "skylake", "--profile", "zen4", "cpuid"]) == Status.GOOD
    titles = re.findall(r"^Guest cycles per operation, (\S+)", capfd.readouterr().out, re.MULTILINE)
    assert titles == ["skylake", "zen4"]
