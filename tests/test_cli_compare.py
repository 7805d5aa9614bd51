"""What `hvmx compare` promises on the command line; what its figures say is in test_comparison.py."""

from __future__ import annotations

import csv
import io
import json

import pytest

from hvmx import guests
from hvmx.cli import Status, main
from hvmx.comparison import WAYS


def test_compare_prints_the_same_numbers_as_table_and_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--json", "syscall", "pt-write"]) == Status.GOOD
    data = json.loads(capfd.readouterr().out)
    assert main(["compare", "syscall", "pt-write"]) == Status.GOOD
    table = capfd.readouterr().out
    assert set(data["operations"]) == {"syscall", "pt-write"}
    for operation, ways in data["operations"].items():
        (row,) = (line.split() for line in table.splitlines() if line.startswith(operation))
        assert row[1::3] == [f"{way['guest_cycles']:,.0f}" for way in ways.values()]
        for shown, way in zip(row[3::3], ways.values(), strict=True):
            assert float(shown) == pytest.approx(way["ratio"], rel=0.005)
    for total in ("exits", "hypercalls", "walk_references"):
        (row,) = (
            line.split()
            for line in table.splitlines()
            if line.startswith(f"  {total.replace('_', ' ')}")
        )
        assert row[-4:] == [f"{totals[total]:,}" for totals in data["totals"].values()]


def test_compare_prints_the_same_numbers_as_csv_and_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--json", "--ways", "native,ept", "tlb-miss", "port-in"]) == Status.GOOD
    data = json.loads(capfd.readouterr().out)
    assert main(["compare", "--csv", "--ways", "native,ept", "tlb-miss", "port-in"]) == Status.GOOD
    rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    assert list(data["totals"]) == list(rows[0])[2:] == ["ept", "native"]
    by_figure = {row["figure"]: row for row in rows}
    for operation, ways in data["operations"].items():
        for way in ("ept", "native"):
            assert by_figure[operation][way] == (str(ways[way]["guest_cycles"]) if way in ways else "")
    for way, totals in data["totals"].items():
        for name, value in totals.items():
            assert by_figure[f"whole run: {name}"][way] == str(value)


@pytest.mark.parametrize("ways", ["ept,vmware", "vmware", ""])
def test_compare_names_a_way_that_is_not_there(ways: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--ways", ways]) == Status.BAD_OPTION
    assert f"no way '{ways.rsplit(',', maxsplit=1)[-1]}': there are ept, shadow, pv, native" in capfd.readouterr().err


def test_compare_answers_in_one_format(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--json", "--csv"]) == Status.BAD_OPTION
    assert "--json, --csv and --diff" in capfd.readouterr().err


def test_the_help_of_compare_says_what_each_operation_and_each_way_is(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--help"]) == Status.GOOD
    text = " ".join(capfd.readouterr().out.split())
    for name, workload in guests.WORKLOADS.items():
        assert f"{name} {workload.does}" in text
    assert all(f"{way.name} ({way.title})" in text for way in WAYS)


def test_compare_names_memory_that_the_host_does_not_have(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--memory", "900000G", "cpuid"]) == Status.BAD_OPTION
    assert f"no room for guest memory of {900000 << 30} bytes" in capfd.readouterr().err


def test_compare_names_an_operation_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "nothing"]) == Status.BAD_OPTION
    assert "no operation 'nothing': there are syscall" in capfd.readouterr().err
