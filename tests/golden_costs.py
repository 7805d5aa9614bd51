"""Golden costs: exact guest cycles and counts of the bundled guests, by profile, in golden/*.json.

They are the model's own output, kept so that a change of any figure is seen and decided. After a change that is
meant, write them anew and commit the difference:

    PYTHONPATH=src python tests/golden_costs.py

An entry holds for one image, named by its hash, since compilers differ; the entries of several images live side
by side.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvmx import guests
from hvmx.cost import BUNDLED
from hvmx.machine import Machine, StopKind

GOLDEN = Path(__file__).parent / "golden"
MEMORY = "64M"
PROFILES = BUNDLED
COUNTS = (
    "guest_cycles",
    "instructions",
    "hypercalls",
    "tlb_misses",
    "walk_references",
    "exceptions",
    "interrupts",
)


@dataclass(frozen=True)
class Case:
    """A bundled guest, and how it is virtualised."""

    guest: str
    mode: str

    def __str__(self) -> str:
        return f"{self.guest} {self.mode}"


CASES = (
    Case("hvm32", "ept"),
    Case("hvm32", "shadow"),
    Case("hvm64", "ept"),
    Case("hvm64", "shadow"),
    Case("pv64", "pv"),
)


def image_hash(case: Case) -> str:
    """SHA-256 of the image: what an entry's costs are the costs of."""
    return hashlib.sha256(guests.image(case.guest).read_bytes()).hexdigest()


def golden_file(profile: str) -> Path:
    return GOLDEN / f"{profile}.json"


def read_golden(profile: str) -> dict[str, dict[str, Any]]:
    """By case, by image hash."""
    content: dict[str, dict[str, Any]] = json.loads(golden_file(profile).read_text())
    return content


def measure(case: Case, profile: str) -> dict[str, Any]:
    """What the guest's whole run costs: guest cycles and counts, all of them the same on every host."""
    console = bytearray()
    pv = case.mode == "pv"
    machine = Machine(MEMORY, profile, paging="ept" if pv else case.mode, serial=console.extend)
    machine.load(guests.image(case.guest), pv=pv)
    stop = machine.run()
    text = console.decode()
    if stop.kind not in (StopKind.HALTED, StopKind.POWEROFF) or " 0 checks failed" not in text:
        raise RuntimeError(f"{case} ended with {stop}:\n{text}")
    counts = machine.statistics()
    return {
        **{name: counts[name] for name in COUNTS},
        "exits": {name: row["count"] for name, row in sorted(counts["exits"].items())},
        "operations": {name: bench.cycles for name, bench in guests.parse_benches(text).items()},
    }


def write_golden() -> None:
    """Measure the images at hand; the entries of others stay."""
    for profile in PROFILES:
        golden = read_golden(profile) if golden_file(profile).exists() else {}
        for case in CASES:
            golden.setdefault(str(case), {})[image_hash(case)] = measure(case, profile)
        golden_file(profile).write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    write_golden()
