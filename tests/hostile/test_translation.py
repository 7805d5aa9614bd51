"""A machine whose code is translated is, to the cycle, the machine whose code is interpreted."""

from __future__ import annotations

import os

import pytest

from .guests import MODES, HostileGuest
from .test_slices import CYCLES, run_to

GUESTS = 2_000 if os.environ.get("HVMX_NIGHTLY") == "1" else 25


@pytest.mark.parametrize("mode", MODES)
def test_translation_changes_no_cycle_no_exit_and_no_byte(mode: str) -> None:
    translated = 0
    for seed in range(GUESTS):
        ends = []
        for translate_after in (None, 0):
            machine = HostileGuest(mode, seed, tame=True).machine
            machine.cpu.translate_after = translate_after
            ends.append(run_to(machine, CYCLES, None))
            translated += ends[-1].pop("blocks_translated")
        interpreted, now = ends
        different = {name: (interpreted[name], now[name]) for name in now if interpreted[name] != now[name]}
        assert not different, f"guest {mode} {seed}, interpreted and translated: {different}"
    assert translated > GUESTS, "hardly any code was translated"
