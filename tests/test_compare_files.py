"""The files of ``hvmx compare`` on the command line: --html, --png and --diff."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hvmx.cli import Status, main

QUICK = ["--ways", "ept,pv", "cpuid"]


def kept(directory: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    """The file of a comparison."""
    assert main(["compare", "--json", *QUICK]) == Status.GOOD
    file = directory / "old.json"
    file.write_text(capfd.readouterr().out)
    return file


def test_a_page_and_a_picture_are_written_beside_the_table(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    html, png = tmp_path / "a.html", tmp_path / "a.png"
    assert main(["compare", "--html", str(html), "--png", str(png), *QUICK]) == Status.GOOD
    assert "cpuid" in capfd.readouterr().out
    assert "s0-ept-cpuid" in html.read_text(), "the explanation of a figure"
    assert png.read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize("option", ["html", "png"])
def test_without_matplotlib_a_chart_names_the_extra_before_anything_runs(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        "hvmx.cli.compare_files.find_spec", lambda name: None if name == "matplotlib" else there(name)
    )
    assert main(["compare", f"--{option}", str(tmp_path / "file")]) == Status.BAD_OPTION
    out, err = capfd.readouterr()
    assert f"--{option}" in err and "pip install 'hvmx[charts]'" in err and not out
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_everything_else_works() -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None; from hvmx.cli import main;"
        "sys.exit(main(['compare', '--ways', 'ept', 'cpuid']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_that_cannot_be_written_is_named_before_anything_runs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "nowhere" / "a.html"
    assert main(["compare", "--html", str(nowhere)]) == Status.BAD_OPTION
    out, err = capfd.readouterr()
    assert f"--html: {nowhere}: cannot be written" in err and not out


def test_no_difference_is_status_0(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    old = kept(tmp_path, capfd)
    assert main(["compare", "--diff", str(old), *QUICK]) == Status.GOOD
    assert capfd.readouterr().out == f"No figure is different from {old}.\n"


def test_a_difference_is_status_22_and_says_by_how_much(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    old = kept(tmp_path, capfd)
    data = json.loads(old.read_text())
    totals = data["outcomes"][0]["totals"]
    now, totals["exits"] = totals["exits"], 2 * totals["exits"]
    old.write_text(json.dumps(data))
    assert main(["compare", "--diff", str(old), *QUICK]) == Status.DIFFERENT == 22
    *_, run, row = capfd.readouterr().out.splitlines()
    assert run.strip() == "bundled, skylake, ept:"
    assert row.split() == ["whole", "run:", "exits", f"{2 * now:,}", f"{now:,}", "-50.00%"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [("guest", "is not JSON"), ("{}", "is not what `hvmx compare --json` writes"), ("[" * 100000, "is not JSON"),
     ('{"format": 2, "outcomes": []}', "has format 2; this version reads format 1")],
    ids=["text", "something else", "deep", "another format"],
)  # fmt: skip
def test_what_is_no_earlier_comparison_is_named_before_anything_runs(
    content: str, problem: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old.json"
    old.write_text(content)
    assert main(["compare", "--diff", str(old)]) == Status.BAD_OPTION
    out, err = capfd.readouterr()
    assert f"{old}: {problem}" in " ".join(err.split()) and not out


def test_another_profile_is_no_difference_but_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    old = kept(tmp_path, capfd)
    assert main(["compare", "--diff", str(old), "--profile", "p4-672", *QUICK]) == Status.BAD_OPTION
    assert "has no run of bundled, p4-672, ept: there are bundled, skylake, ept; " in capfd.readouterr().err


def test_the_earlier_comparison_is_not_written_over(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    old = kept(tmp_path, capfd)
    before = old.read_text()
    assert main(["compare", "--diff", str(old), "--html", str(old), *QUICK]) == Status.BAD_OPTION
    assert "the file of --diff too" in capfd.readouterr().err
    assert old.read_text() == before


def test_one_thing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    old = kept(tmp_path, capfd)
    assert main(["compare", "--diff", str(old), "--json"]) == Status.BAD_OPTION
    assert "--json, --csv and --diff" in capfd.readouterr().err
