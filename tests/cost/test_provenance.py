"""What is said of the figures' provenance is what the profiles' files say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tables import printed

from hvmx import cost
from hvmx.cli import Status, main
from hvmx.comparison.side_by_side import compare
from hvmx.cost import BUNDLED, Mark, load_profile, marks_in_words
from hvmx.isa import OPERAND_CLASSES, rows
from hvmx.report.comparison import comparison_json, comparison_table

README = Path(__file__).parents[2] / "README.md"
PV_TABLE = "paravirtual"
PRIVILEGED = ("xsetbv",)
"""Families that fault outside ring 0, which not the table but their exit's handler sees to (SDM volume 2)."""


def tallies(name: str, table: str = "") -> dict[Mark, int]:
    """The marks in a bundled profile's file, of one table or of all, counted line by line."""
    text = (Path(cost.__file__).with_name(f"{name}.toml")).read_text()
    if table:
        text = text.split(f"\n[{table}]\n")[1].split("\n[")[0]
    marks = re.findall(r'^[^#\n]* = \{.* mark = "(\w+)"', text, re.MULTILINE)
    return {mark: marks.count(mark.value) for mark in Mark}


def concerns_programs(key: str) -> bool:
    """Whether a figure is one that a program without privileges meets all the time: of the pipeline, or of its instructions."""
    table, _, name = key.partition(".")
    classes = {row.cost_class for row in rows() if not {"cpl0", "iopl"} & row.attributes and row.family not in PRIVILEGED}
    without_size = re.sub(r"(?<=[a-z])(8|16|32|64)$", "", name)
    is_of_program = bool(classes & {name, without_size}) or name in OPERAND_CLASSES
    return table in ("pipeline", "memory", "strings") or table == "instructions" and is_of_program


def plain(text: str) -> str:
    """Without line ends, and without what the terminal's width makes of them."""
    return re.sub(r"(?<=\w-) (?=\w)", "", re.sub(r"\s+", " ", text))


@pytest.mark.parametrize("name", BUNDLED)
def test_marks_are_counted_as_the_file_has_them(name: str) -> None:
    profile = load_profile(name)
    assert profile.marks() == tallies(name)
    assert profile.marks(f"{PV_TABLE}.") == tallies(name, PV_TABLE)
    assert sum(profile.marks(f"{PV_TABLE}.").values()) == len(vars(profile.paravirtual))


@pytest.mark.parametrize("name", sorted({*BUNDLED} - {"p4-672"}))
def test_of_what_programs_meet_less_than_15_per_cent_is_assumed(name: str) -> None:
    met = {key: figure.mark for key, figure in load_profile(name).written.items() if concerns_programs(key)}
    assumed = sorted(key for key, mark in met.items() if mark is Mark.ASSUMED)
    assert len(met) > 200
    assert len(assumed) < 0.15 * len(met), assumed


def test_counts_in_words_leave_out_what_there_is_none_of() -> None:
    assert marks_in_words({Mark.PUBLISHED: 10, Mark.FITTED: 4, Mark.ASSUMED: 95}) == "10 published, 4 fitted, 95 assumed"
    assert marks_in_words({Mark.PUBLISHED: 0, Mark.FITTED: 1, Mark.ASSUMED: 4}) == "1 fitted, 4 assumed"
    assert marks_in_words({Mark.PUBLISHED: 0, Mark.FITTED: 0, Mark.ASSUMED: 5}) == "all assumed"


def test_the_readme_says_of_the_profiles_what_their_files_say() -> None:
    readme = plain(README.read_text())
    said = [(name, marks_in_words(tallies(name))) for name in BUNDLED]
    said += [(name, marks_in_words(tallies(name, PV_TABLE))) for name in BUNDLED]
    number = r"(?:\d+|all) (?:measured|published|fitted|assumed)"
    assert re.findall(rf"`([\w-]+)` has ({number}(?:, {number})*)", readme) == said
    assert "published cost table" not in readme


@pytest.mark.parametrize("command", ["run", "compare"])
def test_the_help_says_what_the_figures_are(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == Status.GOOD
    text = plain(capsys.readouterr().out)
    for name in BUNDLED:
        assert f"{name} ({marks_in_words(tallies(name))})" in text


def test_the_first_help_says_that_some_figures_are_assumed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == Status.GOOD
    text = plain(capsys.readouterr().out)
    assert "some of whose figures are assumed" in text and "published cost table" not in text
    assert all(tallies(name)[Mark.ASSUMED] for name in BUNDLED)


@pytest.mark.parametrize("name", BUNDLED)
def test_the_comparison_says_what_its_figures_and_those_of_pv_are(name: str) -> None:
    profile = load_profile(name)
    found = compare(profiles=[profile], workloads=["cpuid"])
    everything, pv = tallies(name), tallies(name, PV_TABLE)
    text = plain(printed(comparison_table(profile, found.of())))
    assert f"The profile's {sum(everything.values())} figures: {marks_in_words(everything)}." in text
    assert f"PV's own {sum(pv.values())} ({', '.join(vars(profile.paravirtual))}): {marks_in_words(pv)}." in text
    data = json.loads(json.dumps(comparison_json(found, {name: profile})))
    said = data["profiles"][name]
    assert said["figures"] == {mark.value: count for mark, count in everything.items()}
    assert said["pv_figures"] == {mark.value: count for mark, count in pv.items()}
