"""The bundled guests cost exactly what was decided."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from golden_costs import CASES, PROFILES, Case, image_hash, measure, read_golden
from missing import missing

from hvmx.cli import Status, main
from hvmx.cost import BUNDLED

REGENERATE: Final = (
    "`python tests/golden_costs.py` writes the golden costs anew; commit the difference if it is meant"
)

README: Final = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_bundled_guest_costs_exactly_the_golden_cycles_and_exits(case: Case, profile: str) -> None:
    by_image = read_golden(profile)[str(case)]
    image = image_hash(case)
    if image not in by_image:
        missing(f"{case}: the image {image[:16]} is another compiler's than the golden ones. {REGENERATE}")
    assert measure(case, profile) == by_image[image], REGENERATE


def test_every_bundled_profile_has_golden_costs() -> None:
    for profile in BUNDLED:
        assert set(read_golden(profile)) == {str(case) for case in CASES}


def deterministic(text: str) -> list[str]:
    """The lines that are the same at each run, without how many lines of code there are at the moment."""
    without_host = re.sub(r"^Resources of this host.*?^$", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = (line.rstrip() for line in without_host.splitlines())
    return [line for line in lines if line and not line.strip().startswith("lines o")]


def test_the_readme_shows_what_compare_prints(capfd: pytest.CaptureFixture[str]) -> None:
    golden = read_golden("skylake")
    for case in CASES:
        if image_hash(case) not in golden[str(case)]:
            missing(f"{case}: the image is another compiler's than the README's")
    assert main(["compare"]) == Status.GOOD
    printed = capfd.readouterr().out
    shown = re.search(r"^    At a glance: bundled guest.*?(?=^Native is)", README.read_text(), re.DOTALL | re.MULTILINE)
    assert shown is not None
    assert deterministic(shown[0].replace("\n    ", "\n").removeprefix("    ")) == deterministic(printed)

