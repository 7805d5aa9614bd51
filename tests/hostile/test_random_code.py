"""No guest, whatever it runs, crashes or hangs its host. `HVMX_NIGHTLY=1` runs 10,000 guests a mode."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .guests import MODES

ROOT = Path(__file__).resolve().parents[2]
GUESTS = 10_000 if os.environ.get("HVMX_NIGHTLY") == "1" else 200
BATCH = 500
SECONDS_PER_GUEST = 2


@pytest.mark.parametrize("mode", MODES)
def test_a_hostile_guest_never_takes_its_host_down(mode: str) -> None:
    for first in range(0, GUESTS, BATCH):
        count = min(BATCH, GUESTS - first)
        command = [sys.executable, "-m", "tests.hostile.campaign", mode, str(first), str(count)]
        try:
            process = subprocess.run(
                command,
                check=False,
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=30 + SECONDS_PER_GUEST * count,
            )
        except subprocess.TimeoutExpired as error:
            output = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
            pytest.fail(f"the host hangs with guest {output.splitlines()[-1:]}")
        last = process.stdout.splitlines()[-1:]
        assert process.returncode == 0 and last == ["done"], (
            f"guest {last}: exit status {process.returncode}\n{process.stderr[-4000:]}"
        )
