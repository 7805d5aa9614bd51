"""What the processor of this computer says of itself, by way of Linux."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BASES: Mapping[tuple[str, int], tuple[tuple[range, str], ...]] = {
    ("AuthenticAMD", 0x19): ((range(0x10, 0x20), "zen4"), (range(0x60, 0xB0), "zen4")),
    ("GenuineIntel", 6): (
        (range(0x1A, 0x1B), "nehalem"), (range(0x1E, 0x20), "nehalem"), (range(0x2E, 0x2F), "nehalem"),
        (range(0x4E, 0x4F), "skylake"), (range(0x55, 0x56), "skylake"), (range(0x5E, 0x5F), "skylake"),
        (range(0x8E, 0x8F), "skylake"), (range(0x9E, 0x9F), "skylake"), (range(0xA5, 0xA7), "skylake"),
        (range(0x8F, 0x90), "golden-cove"), (range(0x97, 0x98), "golden-cove"), (range(0x9A, 0x9B), "golden-cove"),
        (range(0xB7, 0xB8), "golden-cove"), (range(0xBA, 0xBB), "golden-cove"), (range(0xBF, 0xC0), "golden-cove"),
        (range(0xCF, 0xD0), "golden-cove"),
    ),
}  # fmt: skip
"""Vendor and family -> models, and the bundled profile of their microarchitecture. Which model is which is in Linux:
arch/x86/include/asm/intel-family.h and arch/x86/kernel/cpu/amd.c."""

FALLBACK = "skylake"
"""For what is in no line of ``BASES``: the profile that everything else has by default."""

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class CacheLevel:
    """A data or unified cache, by CPUID."""

    size: int
    """KB."""
    ways: int


@dataclass(frozen=True)
class Host:
    """The processor."""

    brand: str
    vendor: str
    family: int
    model: int
    stepping: int
    features: frozenset[str]
    caches: Mapping[int, CacheLevel]
    """By level; those that CPUID tells of."""

    @property
    def under_hypervisor(self) -> bool:
        """Whether some instructions leave for a hypervisor, and page walks are nested ones."""
        return "hypervisor" in self.features

    @property
    def title(self) -> str:
        """The processor's name, which a hypervisor may have shortened, and its numbers."""
        return f"{self.brand} (family {self.family:#x}, model {self.model:#x}, stepping {self.stepping})"

    @property
    def base(self) -> str:
        """The bundled profile that is nearest."""
        for models, name in BASES.get((self.vendor, self.family), ()):
            if self.model in models:
                return name
        return FALLBACK


def read_host(cpuinfo: Path = Path("/proc/cpuinfo"), caches: Path = _CACHES) -> Host:
    """Ask Linux for what CPUID said. OSError where it does not say."""
    first, _, _ = cpuinfo.read_text().partition("\n\n")
    fields = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())
    }
    return Host(
        brand=" ".join(fields.get("model name", "unknown").split()),
        vendor=fields.get("vendor_id", ""),
        family=int(fields.get("cpu family", 0)),
        model=int(fields.get("model", 0)),
        stepping=int(fields["stepping"]) if fields.get("stepping", "").isdigit() else 0,
        features=frozenset(fields.get("flags", "").split()),
        caches=dict(_read_caches(caches)),
    )


def _read_caches(folder: Path) -> list[tuple[int, CacheLevel]]:
    found = []
    for index in sorted(folder.glob("index*")):
        kind, level, size, ways = (
            (index / name).read_text().strip() for name in ("type", "level", "size", "ways_of_associativity")
        )
        if kind != "Instruction" and size.endswith("K"):
            found.append((int(level), CacheLevel(int(size[:-1]), int(ways))))
    return found
