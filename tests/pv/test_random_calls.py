"""Random hypercalls, exceptions and privileged instructions, under sanitizers: errors and crashes of the guest only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from .harness import CEXT, compile_c

SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-shared", "-fPIC")
NIGHTLY = os.environ.get("HVMX_NIGHTLY") == "1"


def sanitizer() -> str:
    """AddressSanitizer's library, which a process that is not built with it must load first."""
    compiler = os.environ.get("CC", "gcc").split()
    command = [*compiler, "-print-file-name=libasan.so"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_no_call_of_a_guest_reaches_the_host(tmp_path: Path) -> None:
    library = tmp_path / "fuzz.so"
    compile_c(library, *CEXT.rglob("*.c"), Path(__file__).with_name("fuzz.c"), flags=SANITIZE)
    domains = 5000 if NIGHTLY else 200
    environment = {
        **os.environ,
        "LD_PRELOAD": sanitizer(),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), *sys.path])),
    }
    result = subprocess.run(
        [sys.executable, "-m", "pv.fuzz", library, "1", str(domains), "1000"],
        capture_output=True, text=True, check=False, timeout=600, env=environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    counts = re.fullmatch(r"(\d+) steps, after (\d+) of which a table was partial\n", result.stdout)
    assert counts, result.stdout
    steps, partial = int(counts[1]), int(counts[2])
    assert steps > 10_000, f"the domains ended after {steps} steps: little was tried"
    assert partial > steps // 50, f"after {partial} of {steps} steps a page table was partial: too few"
