"""Which features of the instruction table the processor has that the tests run on."""

from __future__ import annotations

from pathlib import Path

from hvmx.isa import rows

IN_EVERY_64_BIT_PROCESSOR = frozenset(
    ["base", "p6", "fpu", "tsc", "msr", "cx8", "sep", "cmov", "mmx", "fxsr", "clflush", "sse", "sse2", "syscall"]
)
_LINUX_NAMES = {"sse3": "pni", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "lahf": "lahf_lm", "prefetchw": "3dnowprefetch"}
"""What /proc/cpuinfo calls the features that it does not call by the table's name."""
_CPUINFO = Path("/proc/cpuinfo")


def _flags() -> frozenset[str]:
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.exists() else []
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


LACKING = frozenset(
    feature
    for feature in {row.feature for row in rows()}
    if feature not in IN_EVERY_64_BIT_PROCESSOR and _LINUX_NAMES.get(feature, feature) not in _flags()
)
"""The features with instructions that it lacks, or that its kernel has switched off."""
