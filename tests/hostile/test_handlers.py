"""Handlers may raise, inject, skip, halt and change controls whenever they like. `HVMX_NIGHTLY=1` runs 5,000 guests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GUESTS = 5_000 if os.environ.get("HVMX_NIGHTLY") == "1" else 100


def test_erratic_handlers_neither_crash_nor_hang_the_host() -> None:
    command = [sys.executable, "-m", "tests.hostile.handlers", "0", str(GUESTS)]
    process = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=60 + 2 * GUESTS
    )
    assert process.returncode == 0, f"{process.stdout[-200:]}\n{process.stderr[-4000:]}"
    ends = dict(end.split("=") for end in process.stdout.splitlines()[-1].split())
    assert "TIMEOUT" not in ends, f"a guest does not come to its end in guest cycles: {ends}"
    assert len(ends) > 1, f"all guests end alike: {ends}"
