"""Which processor this host has, by its own words and by the name of the profile that is meant for it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

#: Families and models (CPUID leaf 1, as /proc/cpuinfo has them) by profile. Intel's are those that the SDM, vol. 4, table
#: 2-1 lists by DisplayFamily_DisplayModel, and Linux's intel-family.h for what came after it; AMD's are those of the
#: processor programming references for family 19h.
MODELS: Mapping[str, Mapping[tuple[str, int], tuple[int, ...]]] = {
    "zen4": {("AuthenticAMD", 0x19): (*range(0x10, 0x20), *range(0x60, 0x80), *range(0xA0, 0xB0))},
    "skylake": {("GenuineIntel", 6): (0x4E, 0x5E)},
    "cascade-lake": {("GenuineIntel", 6): (0x55,)},  # Skylake's servers have the number, too
    "golden-cove": {("GenuineIntel", 6): (0x8F, 0x97, 0x9A)},
    "nehalem": {("GenuineIntel", 6): (0x1A, 0x1E, 0x1F, 0x2E)},
    "p4-672": {("GenuineIntel", 15): (4,)},
}


@cache
def _cpuinfo() -> Mapping[str, str]:
    """What Linux says of the first processor."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}


def processor_name() -> str:
    """The processor's name, with what tells those of one name apart: ``AMD EPYC (family 25, model 17, stepping 1)``."""
    known = _cpuinfo()
    if "cpu family" not in known:
        return platform.processor() or platform.machine()
    numbers = f"family {known['cpu family']}, model {known.get('model')}, stepping {known.get('stepping')}"
    return f"{known.get('model name', 'unknown processor')} ({numbers})"


def profile_of_processor() -> str | None:
    """The name of the profile that is meant for this processor, bundled or not; None where no such profile is known."""
    known = _cpuinfo()
    try:
        key, model = (known["vendor_id"], int(known["cpu family"])), int(known["model"])
    except (KeyError, ValueError):
        return None
    return next((name for name, models in MODELS.items() if model in models.get(key, ())), None)
