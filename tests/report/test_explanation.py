"""`hvmx compare --explain` answers why a figure is what it is, by itself."""

from __future__ import annotations

import re

import pytest

from hvmx import guests
from hvmx.cli import Status, main
from hvmx.cost import load_profile


def explained(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["compare", "--explain", *arguments]) == Status.GOOD
    return capfd.readouterr().out


@pytest.mark.parametrize("operation", list(guests.WORKLOADS))
def test_an_explanation_fits_80_columns_and_says_what_the_operation_is(operation: str, capfd: pytest.CaptureFixture[str]) -> None:
    text = explained(capfd, operation)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80, text
    assert re.sub(r"\s+", " ", text).startswith(f"{operation}: {guests.WORKLOADS[operation].does}")


def test_the_rows_of_each_way_add_up_to_its_figure(capfd: pytest.CaptureFixture[str]) -> None:
    text = explained(capfd, "pgfault")
    way, total, rows = "", 0.0, {}
    for line in text.splitlines()[3 : text.splitlines().index("", 3) if "" in text.splitlines()[3:] else None]:
        figure = re.search(r"(-?[\d,]+\.\d)\s*(?:\[\d+\])?\s*$", line)
        if figure is None or line.startswith("["):
            continue
        cycles = float(figure[1].replace(",", ""))
        if line.startswith(" "):
            rows[way][1].append(cycles)
        else:
            way, total = line.split("  ")[0], cycles
            rows[way] = (total, [])
    assert len(rows) >= 3
    for way, (total, parts) in rows.items():
        if parts:
            assert sum(parts) == pytest.approx(total, abs=0.06 * len(parts)), way


def test_every_price_says_its_key_its_mark_and_its_source(capfd: pytest.CaptureFixture[str]) -> None:
    text = explained(capfd, "port-in")
    figures = dict(load_profile("skylake").figures())
    legend = re.findall(r"^\[(\d+)\] ([\w.-]+): (\w+), ", text, re.MULTILINE)
    assert len(legend) > 3
    for _, key, mark in legend:
        assert figures[key].mark.value == mark
    assert [int(number) for number, _, _ in legend] == list(range(1, len(legend) + 1))
    assert "Linux commit b7ffc44d5b2e" in text


def test_it_says_for_which_prices_the_winner_wins(capfd: pytest.CaptureFixture[str]) -> None:
    text = re.sub(r"\s+", " ", explained(capfd, "port-out"))
    assert "PV wins of the ways that have a hypervisor." in text
    assert re.search(r"Wins for any paravirtual\.emulation below [\d,]+ guest cycles \(now 400\); beyond, HVM, nested", text)


def test_a_row_whose_winner_hangs_on_assumed_figures_says_so_in_the_table(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare"]) == Status.GOOD
    table = capfd.readouterr().out
    starred = re.findall(r"^([\w-]+) \*", table, re.MULTILINE)
    assert starred and "syscall" not in starred
    assert "*: which way wins hangs on assumed figures" in table
    for operation in starred:
        assert "That hangs on assumed figures" in re.sub(r"\s+", " ", explained(capfd, operation))


def test_several_profiles_stand_one_after_the_other(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--profile", "skylake", "--profile", "zen4", "cpuid"]) == Status.GOOD
    titles = re.findall(r"^Guest cycles per operation, (\S+)", capfd.readouterr().out, re.MULTILINE)
    assert titles == ["skylake", "zen4"]
