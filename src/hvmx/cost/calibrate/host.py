"""What the processor of this computer says of itself, by way of Linux."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hvmx.cost.loader import BUNDLED
from hvmx.cost.native_processor import processor_name, profile_of_processor

FALLBACK = "skylake"
"""The base for a processor of which there is no bundled profile: what everything else has by default."""


@dataclass(frozen=True)
class CacheLevel:
    """A data or unified cache, by CPUID."""

    size: int
    """KB."""
    ways: int


@dataclass(frozen=True)
class Host:
    """The processor."""

    title: str
    """Its name, which a hypervisor may have shortened, and its numbers."""
    features: frozenset[str]
    """Linux's names of the features that it has."""
    caches: Mapping[int, CacheLevel]
    """By level; those that CPUID tells of."""

    @property
    def under_hypervisor(self) -> bool:
        """Whether some instructions leave for a hypervisor, and page walks are nested ones."""
        return "hypervisor" in self.features


def nearest_profile() -> str:
    """The bundled profile that is meant for this processor, or the fallback."""
    name = profile_of_processor()
    return name if name in BUNDLED else FALLBACK


def read_host(
    cpuinfo: Path = Path("/proc/cpuinfo"), caches: Path = Path("/sys/devices/system/cpu/cpu0/cache")
) -> Host:
    """Ask Linux for what CPUID said of the first processor. OSError where it does not say."""
    first, _, _ = cpuinfo.read_text().partition("\n\n")
    fields = {key.strip(): value for key, _, value in (line.partition(":") for line in first.splitlines())}
    return Host(processor_name(), frozenset(fields.get("flags", "").split()), dict(_read_caches(caches)))


def _read_caches(folder: Path) -> list[tuple[int, CacheLevel]]:
    found = []
    for index in sorted(folder.glob("index*")):
        kind, level, size, ways = (
            (index / name).read_text().strip() for name in ("type", "level", "size", "ways_of_associativity")
        )
        if kind != "Instruction" and size.endswith("K"):
            found.append((int(level), CacheLevel(int(size[:-1]), int(ways))))
    return found
