"""What `hvmx profiles` promises: all figures of a profile, as its file has them, or an error that names its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hvmx import cost
from hvmx.cli import Status, main
from hvmx.cost import BUNDLED, Mark, load_profile, read_profile
from hvmx.report.profile_tables import UNITS, quantities

SKYLAKE = Path(cost.__file__).with_name("skylake.toml")


def output(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["profiles", *arguments]) == Status.GOOD
    return capfd.readouterr().out


def own(tmp_path: Path, old: str, new: str) -> Path:
    """A copy of the bundled profile with one change."""
    path = tmp_path / "mine.toml"
    text = SKYLAKE.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    return path


def test_the_list_has_all_bundled_profiles_with_processor_sources_and_marks(capfd: pytest.CaptureFixture[str]) -> None:
    table = output(capfd)
    assert output(capfd, "list") == table
    listed = json.loads(output(capfd, "--json"))
    assert [each["name"] for each in listed] == list(BUNDLED)
    for each in listed:
        profile = load_profile(each["name"])
        assert each["marks"] == {mark.value: count for mark, count in profile.marks().items()}
        assert each["sources"] == read_profile(profile.name)["sources"]
        (row,) = (line for line in table.splitlines() if line.startswith(f"{profile.name} "))
        assert row.split()[1:5] == [str(count or "-") for count in profile.marks().values()]
        assert profile.processor in row
        assert all(title in table for title in each["sources"].values())


def test_marks_by_source_are_those_of_the_profile(capfd: pytest.CaptureFixture[str]) -> None:
    rows = [line.split()[:5] for line in output(capfd).splitlines()[2:]]
    starts = [[row[0] for row in rows].index(name) for name in BUNDLED]
    for name, start, end in zip(BUNDLED, starts, [*starts[1:], len(rows)], strict=True):
        counts = [count for row in rows[start + 1 : end] for count in row[1:] if count != "-"]
        assert sum(map(int, counts)) == len(load_profile(name).written)


def test_a_file_is_listed_with_the_bundled_ones(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = own(tmp_path, 'processor = "Intel', 'processor = "My Intel')
    names = [each["name"] for each in json.loads(output(capfd, str(path), "--json"))]
    assert names == [*BUNDLED, str(path)]
    assert "My Intel" in output(capfd, str(path))


@pytest.mark.parametrize("command", [(), ("show",), ("show", "--profile")])
def test_a_file_that_cannot_be_used_is_named_with_the_line(
    command: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = own(tmp_path, "user_device   = { cycles = ", "user_device   = { cycles = -")
    line = 1 + path.read_text().split("\nuser_device")[0].count("\n") + 1
    assert main(["profiles", *command, str(path)]) == Status.BAD_OPTION
    assert f"profile {path}:{line}: exits.user_device.cycles = -" in capfd.readouterr().err


@pytest.mark.parametrize("name", BUNDLED)
def test_every_figure_is_shown_with_its_unit_mark_source_and_place(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    content, profile = read_profile(name), load_profile(name)
    (shown,) = json.loads(output(capfd, "show", name, "--json"))
    assert set(shown["figures"]) == set(profile.written)
    rows = {line.split()[0]: line for line in output(capfd, "show", name).splitlines() if "." in line.split(" ")[0]}
    for key, figure in shown["figures"].items():
        table, _, entry = key.partition(".")
        written = content[table][entry]
        assert {part: figure[part] for part in ("mark", "source", "where")} == {
            part: written[part] for part in ("mark", "source", "where")
        }
        assert all(figure["units"].values())
        for part in ("cycles", "value", "latency", "entries", "values"):
            if part in written:
                assert figure[part] == written[part]
        assert written["mark"] in rows[key] and written["source"] in rows[key] and written["where"] in rows[key]
        assert all(unit in rows[key] for unit in figure["units"].values())


def test_units_are_said_of_figures_that_are_there() -> None:
    assert set(UNITS) <= set(load_profile("skylake").written)


def test_pipes_are_shown_as_the_file_has_them() -> None:
    figure = load_profile("skylake").written["instructions.div32"]
    shown = {quantity.name: quantity.text for quantity in quantities("instructions.div32", figure)}
    written = read_profile("skylake")["instructions"]["div32"]
    assert shown["uses"] == written["uses"]
    assert shown["slots"] == str(written["slots"])


@pytest.mark.parametrize("arguments", [("skylake", "p4-672"), ("--profile", "skylake", "--profile", "p4-672")])
def test_profiles_stand_side_by_side_each_with_its_mark(
    arguments: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    (row,) = (line for line in output(capfd, "show", *arguments).splitlines() if line.startswith("exits.default "))
    assert row.split() == ["exits.default", "1,213", "fitted", "3,963", "assumed", "guest", "cycles"]
    both = json.loads(output(capfd, "show", *arguments, "--json"))
    assert [each["name"] for each in both] == ["skylake", "p4-672"]
    assert both[1]["figures"]["instructions.io"]["mark"] == Mark.PUBLISHED.value


def test_a_figure_that_one_profile_lacks_is_left_empty(capfd: pytest.CaptureFixture[str]) -> None:
    table = output(capfd, "show", "skylake", "zen4")
    (row,) = (line for line in table.splitlines() if line.startswith("validation.plain_code"))
    assert row.split()[1:4] == ["-", "10,", "97"]


def test_show_asks_for_a_profile_and_names_those_there_are(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles", "show"]) == Status.BAD_OPTION
    assert "which profile? There are skylake" in capfd.readouterr().err


def test_the_help_is_that_of_the_command(capfd: pytest.CaptureFixture[str]) -> None:
    for option in ("-h", "--help"):
        assert "Exit status:" in output(capfd, option)
