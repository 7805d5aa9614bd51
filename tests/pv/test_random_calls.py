"""Random hypercalls, exceptions and privileged instructions, under sanitizers: errors and crashes of the guest only."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .harness import ROOT, compile_c

SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
NIGHTLY = os.environ.get("HVMX_NIGHTLY") == "1"


def test_no_call_of_a_guest_reaches_the_host(tmp_path: Path) -> None:
    program = tmp_path / "fuzz"
    sources = [*sorted((ROOT / "cext").glob("*.c")), Path(__file__).with_name("fuzz.c")]
    compile_c(program, *sources, flags=SANITIZE)
    domains = 5000 if NIGHTLY else 200
    result = subprocess.run(
        [program, "1", str(domains), "1000"], capture_output=True, text=True, check=False, timeout=600
    )
    assert result.returncode == 0, result.stdout + result.stderr
    steps, _, _, partial, *_ = result.stdout.split()
    assert int(steps) > 10_000, f"the domains ended after {steps} steps: little was tried"
    assert int(partial) > int(steps) // 50, f"after {partial} of {steps} steps a page table was partial: too few"
