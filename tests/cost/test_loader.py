"""What loading a profile promises: everything is there, or an error that names file, key and value."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvmx.cost import BUNDLED, FRACTION, Mark, ProfileError, load_profile
from hvmx.exits import ExitReason
from hvmx.isa import cost_classes

SKYLAKE = Path(__file__).parents[2] / "src" / "hvmx" / "cost" / "skylake.toml"


def changed(tmp_path: Path, old: str, new: str) -> Path:
    """A copy of the bundled profile with one change."""
    text = SKYLAKE.read_text()
    assert text.count(old) == 1, f"{old!r} is not once in the profile"
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new))
    return path


def line_of(key: str) -> str:
    """The whole line of a key."""
    (line,) = (line for line in SKYLAKE.read_text().splitlines(keepends=True) if line.split(" ")[0] == key)
    return line


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_profile_has_every_class_and_every_exit_reason(name: str) -> None:
    profile = load_profile(name)
    assert tuple(profile.classes) == cost_classes()
    assert set(profile.exits) == set(ExitReason)


@pytest.mark.parametrize("name", BUNDLED)
def test_every_figure_has_a_value_a_source_and_a_mark(name: str) -> None:
    for key, figure in load_profile(name).figures():
        assert figure.units >= 1, key
        assert figure.source.strip() and figure.where.strip(), key
        assert isinstance(figure.mark, Mark), key


@pytest.mark.parametrize("name", BUNDLED)
def test_what_is_published_or_fitted_names_more_than_an_estimate(name: str) -> None:
    for key, figure in load_profile(name).figures():
        if figure.mark is not Mark.ASSUMED:
            assert "estimate" not in figure.source, f"{key} is {figure.mark.value} and has no source"


@pytest.mark.parametrize("name", BUNDLED)
def test_what_is_from_memory_is_assumed(name: str) -> None:
    for key, figure in load_profile(name).figures():
        if "unverified" in figure.where or "memory" in figure.where.split():
            assert figure.mark is Mark.ASSUMED, key


def test_a_path_loads_a_profile_of_ones_own(tmp_path: Path) -> None:
    path = changed(tmp_path, line_of("alu"), line_of("alu").replace("cycles = 1,", "cycles = 0.5,"))
    assert load_profile(path).classes["alu"].units == FRACTION // 2


def test_a_missing_class_is_listed(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"mine\.toml: \[classes\] lacks bcd$"):
        load_profile(changed(tmp_path, line_of("bcd"), ""))


def test_an_unknown_class_is_listed(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"mine\.toml: \[classes\] has unknown keys: alufoo"):
        load_profile(changed(tmp_path, line_of("alu"), line_of("alu") + "alufoo = 1\n"))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("-1", "-0x1: not within"),
        ("0", "0x0: not within"),
        ("0.015", "0.015: not within"),
        ("nan", "nan: not within"),
        ("inf", "inf: not within"),
        ("1000001", "0xf4241: not within"),
        ("0x" + "f" * 5000, "0xfff"),
        ("true", "not a number"),
        ('"1"', "'1': not a number"),
    ],
)
def test_an_absurd_figure_is_refused_by_its_key(tmp_path: Path, value: str, says: str) -> None:
    path = changed(tmp_path, line_of("bcd"), line_of("bcd").replace("cycles = 20,", f"cycles = {value},"))
    with pytest.raises(ProfileError, match=rf"mine\.toml: classes\.bcd\.cycles = .*{says}"):
        load_profile(path)


@pytest.mark.parametrize("value", ["1" + "0" * 4500, "]", '"\\ud800"'])
def test_what_is_not_toml_is_refused(tmp_path: Path, value: str) -> None:
    path = changed(tmp_path, line_of("bcd"), line_of("bcd").replace("cycles = 20,", f"cycles = {value},"))
    with pytest.raises(ProfileError, match=r"mine\.toml: is not TOML"):
        load_profile(path)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('mark = "assumed"', 'mark = "measured"', "'measured': not one of published, fitted, assumed"),
        ('source = "estimate"', 'source = "nowhere"', r"'nowhere': not a key of \[sources\]"),
        ('where = "microcoded"', 'where = " "', "' ': not a text"),
    ],
)
def test_a_figure_without_provenance_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(ProfileError, match=rf"mine\.toml: classes\.bcd\.\w+ = {says}"):
        load_profile(changed(tmp_path, line_of("bcd"), line_of("bcd").replace(old, new)))


def test_a_guest_second_is_of_whole_cycles(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"clock\.second\.cycles = 2200000000\.5: not a whole number"):
        load_profile(changed(tmp_path, "cycles = 2_200_000_000,", "cycles = 2_200_000_000.5,"))
    assert load_profile(changed(tmp_path, "cycles = 2_200_000_000,", "cycles = 2.5e9,")).hz == 2_500_000_000


def test_a_profile_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(
        ProfileError, match=r"profile skylke: cannot be read: .*; the bundled ones are skylake, p4-672"
    ):
        load_profile("skylke")


def test_an_exit_reason_without_a_figure_costs_the_default() -> None:
    profile = load_profile("skylake")
    assert profile.exits[ExitReason.CPUID] == profile.exits[ExitReason.HLT]
    assert profile.exits[ExitReason.EPT_VIOLATION] != profile.exits[ExitReason.HLT]
