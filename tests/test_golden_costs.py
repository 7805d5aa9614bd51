"""The bundled guests cost exactly what was decided."""

from __future__ import annotations

import os
from typing import Final

import pytest
from golden_costs import CASES, PROFILES, Case, image_hash, measure, read_golden

from hvmx.cost import BUNDLED

REGENERATE: Final = (
    "`python tests/golden_costs.py` writes the golden costs anew; commit the difference if it is meant"
)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_bundled_guest_costs_exactly_the_golden_cycles_and_exits(case: Case, profile: str) -> None:
    by_image = read_golden(profile)[str(case)]
    image = image_hash(case)
    if image not in by_image:
        message = f"{case}: the image {image[:16]} is another compiler's than the golden ones. {REGENERATE}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    assert measure(case, profile) == by_image[image], REGENERATE


def test_every_bundled_profile_has_golden_costs() -> None:
    for profile in BUNDLED:
        assert set(read_golden(profile)) == {str(case) for case in CASES}
