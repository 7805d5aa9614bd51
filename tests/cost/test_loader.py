"""What loading a profile promises: everything is there, or an error that names file, line, key and value."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hvmx.cost import BUNDLED, Mark, ProfileError, load_profile
from hvmx.cost.toml_lines import line_of as line_of_key
from hvmx.exits import ExitReason
from hvmx.isa import SIZES, cost_classes

SKYLAKE = Path(__file__).parents[2] / "src" / "hvmx" / "cost" / "skylake.toml"


def changed(tmp_path: Path, old: str, new: str) -> Path:
    """A copy of the bundled profile with one change."""
    text = SKYLAKE.read_text()
    assert text.count(old) == 1, f"{old!r} is not once in the profile"
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new))
    return path


def line_of(key: str) -> str:
    """The whole line of a key, other than a group's or a flag's."""
    lines = SKYLAKE.read_text().splitlines(keepends=True)
    (line,) = (line for line in lines if line.split(" ")[0] == key and not line.endswith("]\n"))
    return line


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_profile_has_every_class_and_every_exit_reason(name: str) -> None:
    profile = load_profile(name)
    assert tuple(profile.instructions) == cost_classes()
    assert set(profile.exits) == set(ExitReason)


@pytest.mark.parametrize("name", BUNDLED)
def test_every_figure_has_a_value_a_source_and_a_mark(name: str) -> None:
    for key, figure in load_profile(name).figures():
        assert figure.units >= 0, key
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
    path = changed(tmp_path, line_of("alu"), line_of("alu").replace("latency = 1,", "latency = 2,"))
    assert load_profile(path).instructions["alu"].latency == 2


def test_a_missing_class_is_listed(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"mine\.toml:\d+: \[instructions\] lacks hlt$"):
        load_profile(changed(tmp_path, line_of("hlt"), ""))


def line_number(path: Path, start: str) -> int:
    """Of the only line that begins so."""
    (number,) = (number for number, line in enumerate(path.read_text().split("\n"), 1) if line.startswith(start))
    return number


@pytest.mark.parametrize(
    ("key", "change", "says"),
    [
        ("hlt", lambda line: line.replace("latency = 50", "latency = -50"), r"instructions\.hlt\.latency = -0x32"),
        ("hlt", lambda line: line.replace("latency = 50, ", ""), r"\[instructions\.hlt\] lacks latency"),
        ("hlt", lambda line: line.replace("latency = 50", "latency = 50, ports = 2"), r"\[instructions\.hlt\] has unknown"),
        ("user_device", lambda line: line.replace("cycles = ", "cycles = -"), r"exits\.user_device\.cycles = -0x15ed"),
        ("history_lengths", lambda line: line.replace("values = [4,", "values = [\n  -4,"), r"branches\.history_lengths"),
    ],
)
def test_an_error_has_the_line_of_its_key(
    tmp_path: Path, key: str, change: Callable[[str], str], says: str
) -> None:
    line = line_of(key)
    assert change(line) != line
    path = changed(tmp_path, line, change(line))
    with pytest.raises(ProfileError, match=rf"mine\.toml:{line_number(path, f'{key} ')}: {says}"):
        load_profile(path)


def test_an_unknown_key_has_its_line_and_a_missing_figure_that_of_its_table(tmp_path: Path) -> None:
    path = changed(tmp_path, line_of("hlt"), line_of("hlt") + "halt = 1\n")
    with pytest.raises(ProfileError, match=rf"mine\.toml:{line_number(path, 'halt ')}: .* unknown keys: halt$"):
        load_profile(path)
    path = changed(tmp_path, line_of("user_device"), "")
    with pytest.raises(ProfileError, match=rf"mine\.toml:{line_number(path, '[exits]')}: \[exits\] lacks user_device$"):
        load_profile(path)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("exits . default = { where = 'cycles = 2', cycles = -1 }", 1),
        ("[tlb]\ndefault.cycles = 2\n[exits]\n'default'.cycles = -1\n[last]", 4),
        ("[exits.default]\n# cycles = 2\n\ncycles = -1\n[last]\ncycles = 2", 4),
        ('sources."a.b" = """\n[exits]\ndefault.cycles = 2\n"""\n[exits]\ndefault.cycles = -1', 6),
        ("[exits]\n'default' = { note = [\n  1, # cycles = 2\n], cycles = -1 }\n", 4),
        ("[exits]\ndefault = -1", 2),
        ("[tlb]\n[exits]\nothers = 1", 2),
        ("[exits.others]\n[exits.default]\ncycles = 2", 3),
        ("exits.default.mark = 'cycles'\nexits.default.cycles = 2", 2),
        ("[tlb]\ndefault.cycles = 1", None),
    ],
)  # fmt: skip
def test_a_line_is_found_however_the_key_is_written(text: str, line: int | None) -> None:
    assert line_of_key(text, "exits.default.cycles") == line


def test_an_unknown_class_is_listed(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"mine\.toml:\d+: \[instructions\] has unknown keys: alufoo"):
        load_profile(changed(tmp_path, line_of("alu"), line_of("alu") + "alufoo = 1\n"))


@pytest.mark.parametrize("found", ["", "format = 1\n"])
def test_an_older_format_is_told_what_to_add(tmp_path: Path, found: str) -> None:
    path = tmp_path / "old.toml"
    path.write_text(found + 'processor = "x"\ncpu = "x86-64-v1"\n[sources]\n[clock]\n[classes]\n[paging]\n')
    with pytest.raises(
        ProfileError, match=r"old\.toml: has (no format|format 1); format 2 adds .*\[instructions\]"
    ) as caught:
        load_profile(path)
    for table in ("pipeline", "pipes", "groups", "memory", "strings", "branches", "caches", "tlb"):
        assert f" {table}" in str(caught.value)
    assert "clock" not in str(caught.value)


def test_a_newer_format_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"mine\.toml: has format 3; this version reads format 2$"):
        load_profile(changed(tmp_path, "\nformat = 2\n", "\nformat = 3\n"))


def test_a_class_by_size_without_a_line_of_its_own_is_as_the_one_without_size(tmp_path: Path) -> None:
    line = line_of("alu").replace("alu", "mul", 1).replace("latency = 1,", "latency = 77,")
    text = "".join(
        each for each in SKYLAKE.read_text().splitlines(keepends=True) if not each.startswith("mul")
    )
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(line_of("alu"), line_of("alu") + line))
    assert [load_profile(path).instructions[f"mul{size}"].latency for size in SIZES] == [77] * len(SIZES)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("-1", "-0x1: not within"),
        ("1.5", "1.5: not a whole number"),
        ("nan", "nan: not a whole number"),
        ("1000001", "0xf4241: not within"),
        ("0x" + "f" * 5000, "0xfff"),
        ("true", "not a whole number"),
        ('"1"', "'1': not a whole number"),
    ],
)
def test_an_absurd_latency_is_refused_by_its_key(tmp_path: Path, value: str, says: str) -> None:
    path = changed(tmp_path, line_of("hlt"), line_of("hlt").replace("latency = 50,", f"latency = {value},"))
    with pytest.raises(ProfileError, match=rf"mine\.toml:\d+: instructions\.hlt\.latency = .*{says}"):
        load_profile(path)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("-1", "-0x1: not within"),
        ("0", "0x0: not within"),
        ("0.008", "0.008: not within"),
        ("nan", "nan: not within"),
        ("inf", "inf: not within"),
        ("1000001", "0xf4241: not within"),
        ("true", "not a number"),
        ('"1"', "'1': not a number"),
    ],
)
def test_an_absurd_time_is_refused_by_its_key(tmp_path: Path, value: str, says: str) -> None:
    line = line_of("TASK_SWITCH")
    path = changed(tmp_path, line, re.sub(r"cycles = \d+", f"cycles = {value}", line))
    with pytest.raises(ProfileError, match=rf"mine\.toml:\d+: exits\.TASK_SWITCH\.cycles = .*{says}"):
        load_profile(path)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("alu*0", r"'alu\*0': not within 1 and"),
        ("alu*", r"'alu\*': not a pipe or a group"),
        ("port9", "'port9': not a pipe or a group"),
        ("p0 p0 p0 p0 p0 p0 p0", "more than 6 pipes"),
    ],
)
def test_a_use_of_what_is_no_pipe_is_refused(tmp_path: Path, value: str, says: str) -> None:
    path = changed(tmp_path, line_of("alu"), line_of("alu").replace('uses = "alu"', f'uses = "{value}"'))
    with pytest.raises(ProfileError, match=rf"mine\.toml:\d+: instructions\.alu\.uses = .*{says}"):
        load_profile(path)


def test_an_instruction_that_would_take_no_time_is_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, line_of("nop"), line_of("nop").replace("slots = 1", "slots = 0"))
    with pytest.raises(ProfileError, match=r"mine\.toml:\d+: instructions\.nop\.slots = 0x0: .*no time"):
        load_profile(path)


@pytest.mark.parametrize(
    ("key", "old", "new", "says"),
    [
        ("fusion", '"cmp"', '"compare"', r"pipeline\.fusion\.families = 'compare': not a family"),
        (
            "eliminated_moves",
            '"vector"',
            '"x87"',
            r"pipeline\.eliminated_moves\.kinds = 'x87': not of general, vector",
        ),
        ("data_4k", "ways = 4", "ways = 3", r"tlb\.data_4k\.ways = 0x3: does not divide 0x40 entries"),
        ("history_lengths", "[4,", "[-4,", r"branches\.history_lengths\.values = -0x4: not within"),
        ("predictor", "true", "1", r"branches\.predictor = 0x1: not true or false"),
        (
            "dispatch",
            "value = 4",
            "value = 0",
            r"pipeline\.dispatch\.value = 0x0: no instruction could begin",
        ),
        (
            "misprediction",
            "cycles = 14",
            "cycles = 14.5",
            r"pipeline\.misprediction\.cycles = 14\.5: not a whole number",
        ),
    ],
)
def test_an_entry_that_cannot_be_is_refused_by_its_key(
    tmp_path: Path, key: str, old: str, new: str, says: str
) -> None:
    line = line_of(key)
    assert old in line
    with pytest.raises(ProfileError, match=rf"mine\.toml:\d+: {says}"):
        load_profile(changed(tmp_path, line, line.replace(old, new)))


@pytest.mark.parametrize("value", ["1" + "0" * 4500, "]", '"\\ud800"'])
def test_what_is_not_toml_is_refused(tmp_path: Path, value: str) -> None:
    path = changed(tmp_path, line_of("hlt"), line_of("hlt").replace("latency = 50,", f"latency = {value},"))
    with pytest.raises(ProfileError, match=r"mine\.toml: is not TOML"):
        load_profile(path)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            'mark = "assumed"',
            'mark = "guessed"',
            "'guessed': not one of measured, published, fitted, assumed",
        ),
        ('source = "estimate"', 'source = "nowhere"', r"'nowhere': not a key of \[sources\]"),
        ('where = "microcoded"', 'where = " "', "' ': not a text"),
    ],
)
def test_a_figure_without_provenance_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(ProfileError, match=rf"mine\.toml:\d+: instructions\.hlt\.\w+ = {says}"):
        load_profile(changed(tmp_path, line_of("hlt"), line_of("hlt").replace(old, new)))


def test_a_guest_second_is_of_whole_cycles(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"clock\.second\.cycles = 2200000000\.5: not a whole number"):
        load_profile(changed(tmp_path, "cycles = 2_200_000_000,", "cycles = 2_200_000_000.5,"))
    assert load_profile(changed(tmp_path, "cycles = 2_200_000_000,", "cycles = 2.5e9,")).hz == 2_500_000_000


def test_a_profile_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(
        ProfileError,
        match=r"profile skylke: cannot be read: .*; the bundled ones are skylake, cascade-lake, zen4, golden-cove, nehalem, p4-672",
    ):
        load_profile("skylke")


def test_an_exit_reason_without_a_figure_costs_the_default() -> None:
    profile = load_profile("skylake")
    assert profile.exits[ExitReason.CPUID] == profile.exits[ExitReason.HLT]
    assert profile.exits[ExitReason.EPT_VIOLATION] != profile.exits[ExitReason.HLT]
