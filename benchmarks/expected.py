"""Guest cycles and exits of the guests that are timed: the same on every machine, and recorded in expected.json.

An entry holds for the octets of an image, since kernels of others change. After a change of costs that is meant, and for new
images:

    HVMX_BENCH_RECORD=1 pytest benchmarks/
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from elftools.elf.elffile import ELFFile
from pytest_benchmark.fixture import BenchmarkFixture

RECORDED: Final = Path(__file__).with_name("expected.json")
RECORD: Final = os.environ.get("HVMX_BENCH_RECORD") == "1"
HOW: Final = "HVMX_BENCH_RECORD=1 records them"


def counts(statistics: Mapping[str, Any]) -> dict[str, Any]:
    """What is expected, of ``Machine.statistics()`` or the file of ``hvmx run --stats``."""
    exits = {reason: row["count"] for reason, row in sorted(statistics["exits"].items())}
    return {**{name: statistics[name] for name in ("guest_cycles", "instructions", "hypercalls")}, "exits": exits}


def assert_expected(
    benchmark: BenchmarkFixture, guest: str, laps: Sequence[Mapping[str, Any]], *images: Path
) -> None:
    """Put what the guest took in each lap into ``extra_info``, and hold it against what is recorded of these images."""
    counted = laps[0]
    assert all(lap == counted for lap in laps), f"{guest}: not the same in each lap: {laps}"
    benchmark.extra_info[guest] = counted
    recorded = json.loads(RECORDED.read_text())
    key = _hash(images)
    if RECORD:
        recorded.setdefault(guest, {})[key] = counted
        RECORDED.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
    elif key in recorded.get(guest, {}):
        assert counted == recorded[guest][key], f"{guest}; if this is meant, {HOW}"
    else:
        warnings.warn(f"{guest}: of image {key} no guest cycles are recorded: {HOW}", stacklevel=2)


def _hash(images: tuple[Path, ...]) -> str:
    whole = hashlib.sha256()
    for image in images:
        with image.open("rb") as file:
            elf = file.read(4) == b"\x7fELF"
            file.seek(0)
            # The names in an ELF file may be those of temporary files.
            segments = ELFFile(file).iter_segments("PT_LOAD") if elf else ()
            whole.update(b"".join(segment.data() for segment in segments) if elf else file.read())
    return whole.hexdigest()[:16]
