"""The words of exits are written down once, and every exit goes through one door."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from missing import missing

import hvmx
from hvmx import ExitReason
from hvmx.hvm import controls
from hvmx.vocabulary import CONTROLLED, DETAILS, PV_REASONS, Control, generate

ROOT = Path(__file__).parents[1]
KERNEL_HEADER = Path("/usr/include/x86_64-linux-gnu/asm/vmx.h")
DOOR = "src/hvmx/core/exit/door.pyx"


def written() -> Iterator[tuple[str, str]]:
    """What is written by hand in the languages of the core, by its path."""
    for folder in ("src", "cext", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if re.search(r"\.(pyx|pxd|c|h)(\.in)?$", path.name) and "generated" not in path.parts:
                text = path.read_text()
                if not re.match(r"(# |/\* )[Gg]enerated by ", text):
                    yield str(path.relative_to(ROOT)), text


def test_reasons_have_the_names_and_numbers_of_linux() -> None:
    if not KERNEL_HEADER.exists():
        missing(f"{KERNEL_HEADER} is not installed")
    theirs = dict(re.findall(r"#define EXIT_REASON_(\w+)\s+(\d+)", KERNEL_HEADER.read_text()))
    assert {reason.name: str(reason.value) for reason in ExitReason}.items() <= theirs.items()


def test_reasons_controls_and_stops_are_numbered_nowhere_else() -> None:
    word = r"(?:^|[\s{,])(?:EXIT|CTL|STOP)_\w+ *= *[\w<]|#define (?:EXIT|CTL|STOP)_"
    found = {path: re.findall(word, text) for path, text in written()}
    assert len(found) > 150
    assert not {path: words for path, words in found.items() if words}


def test_nobody_but_the_door_calls_the_handler() -> None:
    calls = {path: len(re.findall(r"(?:\.|->)vmexit\(", text)) for path, text in written()}
    assert {path: count for path, count in calls.items() if count} == {DOOR: 1}


def test_nobody_but_the_door_counts_and_times_an_exit() -> None:
    calls = {path: re.findall(r"counts\.(began|ended)\(", text) for path, text in written()}
    assert {path: names for path, names in calls.items() if names} == {DOOR: ["began", "ended"]}


def test_python_names_every_control() -> None:
    assert {name: value for name, value in vars(controls).items() if isinstance(value, Control)} == dict(
        Control.__members__
    )


def test_controls_are_bits_of_their_own_and_each_makes_something_exit() -> None:
    assert all(control.bit_count() == 1 for control in map(int, Control))
    assert list(CONTROLLED) == list(Control) and all(CONTROLLED.values())


def test_the_list_in_the_documentation_is_that_of_the_sources() -> None:
    assert (ROOT / "docs" / "exits.md").read_text() == generate.page(), (
        "python -m hvmx.vocabulary.generate src/hvmx/core/generated docs"
    )


def test_what_the_core_was_built_with_is_that_of_the_sources() -> None:
    built = Path(hvmx.__file__).parent / "core" / "generated"
    assert (built / "vocabulary.h").read_text() == generate.header()
    assert (built / "vocabulary.pxd").read_text() == generate.declarations()


def test_reasons_fit_the_sets_that_the_core_keeps_of_them() -> None:
    assert max(ExitReason) < 64
    assert set(DETAILS) | PV_REASONS <= set(ExitReason)
