"""What `hvmx compare` promises on the command line; what its figures say is in test_comparison.py."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hvmx import guests
from hvmx.cli import Status, main
from hvmx.comparison.ways import WAYS


def as_json(capfd: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, Any]]:
    """What each way came to."""
    assert main(["compare", "--json", *arguments]) == Status.GOOD
    return {outcome["way"]: outcome for outcome in json.loads(capfd.readouterr().out)["outcomes"]}


def test_compare_prints_the_same_numbers_as_table_and_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    data = as_json(capfd, "syscall", "pt-write")
    assert main(["compare", "syscall", "pt-write"]) == Status.GOOD
    table = capfd.readouterr().out
    for operation in ("syscall", "pt-write"):
        figures = [outcome["operations"][operation]["guest_cycles_each"] for outcome in data.values()]
        (row,) = (line.split() for line in table.splitlines() if line.startswith(f"{operation} "))
        assert row[1::3] == [f"{figure:,.0f}" for figure in figures]
        for shown, figure in zip(row[3::3], figures, strict=True):
            assert float(shown) == pytest.approx(figure / min(figures), rel=0.005)
    for total in ("exits", "hypercalls", "walk_references"):
        (row,) = (
            line.split()
            for line in table.split("whole run:")[1].splitlines()
            if line.startswith(f"  {total.replace('_', ' ')}")
        )
        assert row[-4:] == [f"{outcome['totals'][total]:,}" for outcome in data.values()]


def test_compare_prints_the_same_numbers_as_csv_and_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    data = as_json(capfd, "--ways", "native,ept", "tlb-miss", "port-in")
    assert list(data) == ["ept", "native"]
    assert main(["compare", "--csv", "--ways", "native,ept", "tlb-miss", "port-in"]) == Status.GOOD
    rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    assert {(row["guest"], row["profile"]) for row in rows} == {("bundled", "skylake")}
    shown = {(row["way"], row["figure"]): float(row["value"]) for row in rows}
    expected = {
        (way, name): operation["guest_cycles"] / operation["count"]
        for way, outcome in data.items()
        for name, operation in outcome["operations"].items()
    }
    expected |= {
        (way, f"whole run: {name}"): value for way, outcome in data.items() for name, value in outcome["totals"].items()
    }
    assert shown == expected
    assert ("ept", "port-in") in shown and ("native", "port-in") not in shown
    assert {row["unit"] for row in rows} == {"guest cycles per operation", "guest cycles", "count"}


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
    assert "no operation 'nothing', and no image of that name: operations are syscall" in capfd.readouterr().err


def test_operations_are_of_the_bundled_guest_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "kernel"
    image.write_bytes(b"\x7fELF")
    assert main(["compare", str(image), "cpuid"]) == Status.BAD_OPTION
    assert f"cpuid: operations are the bundled guest's, not {image}'s" in capfd.readouterr().err
    assert main(["compare", "--initrd", str(image)]) == Status.BAD_OPTION
    assert "--initrd is for an image of your own" in capfd.readouterr().err


def test_the_command_line_starts_without_what_only_a_run_needs() -> None:
    loaded = "import sys, hvmx.cli; print(*sorted(name for name in sys.modules if name.startswith('hvmx.')))"
    names = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout.split()
    assert "hvmx.cli.compare" in names and "hvmx.comparison.ways" in names
    assert not {"hvmx.machine", "hvmx.core.vcpu", "hvmx.comparison.outcome", "hvmx.report.comparison"} & set(names)

