"""What Linux's services cost in each way of running it, beside published ratios: with their signs, and whether they agree.

A stock 64-bit kernel boots as HVM with nested paging, as HVM with shadow paging and as PV, and its /init (``linux/signs.c``)
times system calls, signals, faults and processes by the guest's time-stamp counter, so in guest cycles. HVM kernels boot
with page-table isolation and without; a PV kernel leaves its own off whatever it is told, as its user mode has other page
tables than its kernel anyway (Linux, arch/x86/mm/pti.c), so one boot stands for both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from statistics import median
from typing import Any

from hvmx.boot import Source
from hvmx.comparison.runs import GOOD_ENDS, GuestFailed
from hvmx.cost import Profile
from hvmx.machine import Machine

from .initramfs import archive, character_device, directory, executable

BUILT = Path(__file__).parent / "built" / "signs"

SOURCE = "PVM (SOSP 2023): lmbench under KVM with EPT, KVM with shadow paging, PVM"
"""Where the published figures are from. In it shadow paging is the dearer for every operation, with isolation."""

#: No test of what the board has not: ACPI, PCI, APICs; and none of the kernel's own of its ciphers.
COMMAND_LINE = "quiet panic=-1 nokaslr cryptomgr.notests"
HVM_COMMAND_LINE = f"console=ttyS0 {COMMAND_LINE} acpi=off pci=off noapic nolapic"
PV_COMMAND_LINE = f"console=hvc0 {COMMAND_LINE}"


class Sign(Enum):
    """How a way compares with another."""

    CHEAPER = "cheaper"
    SAME = "same"
    DEARER = "dearer"

    @classmethod
    def of(cls, ratio: float) -> Sign:
        """A twentieth is no difference: the published figures have two digits."""
        return cls.SAME if abs(ratio - 1) <= 0.05 else cls.DEARER if ratio > 1 else cls.CHEAPER


@dataclass(frozen=True)
class Published:
    """What ``SOURCE`` has of an operation: microseconds by way."""

    ept: float
    shadow: float
    pv: float | None = None
    """With a hypervisor for PV guests whose paging is shadowed, which Xen's is not: comparable by its sign."""

    def ratio(self, way: str) -> float | None:
        time: float | None = getattr(self, way)
        return None if time is None else time / self.ept


@dataclass(frozen=True)
class Operation:
    """One that ``signs.c`` times."""

    name: str
    isolated: Published | None = None
    """With page-table isolation."""
    together: Published | None = None
    """Without."""

    def published(self, isolation: bool) -> Published | None:
        return self.isolated if isolation else self.together


OPERATIONS = (
    Operation("getpid", Published(0.22, 2.09, 1.91), Published(0.06, 0.06)),
    Operation("null-io"),
    Operation("stat"),
    Operation("signal-install"),
    Operation("signal-handling"),
    Operation("protection-fault"),
    Operation("page-fault", Published(0.15, 0.93, 0.88)),
    Operation("fork", Published(82, 505, 437)),
    Operation("exec"),
    Operation("sh"),
    Operation("mmap"),
)
"""In the order in which they are timed. Of fork and page fault one figure each is known, which is taken to be with isolation."""

NAMES = tuple(operation.name for operation in OPERATIONS)


@dataclass(frozen=True)
class Way:
    """A way of running the kernel, with isolation or without, or with either."""

    name: str
    title: str
    isolation: bool | None

    @property
    def description(self) -> str:
        return self.title if self.isolation is None else f"{self.title}, pti={_ON_OFF[self.isolation]}"

    @property
    def command_line(self) -> str:
        return PV_COMMAND_LINE if self.isolation is None else f"{HVM_COMMAND_LINE} pti={_ON_OFF[self.isolation]}"


_ON_OFF = {True: "on", False: "off"}

WAYS = (
    *(Way("ept", "HVM, nested paging", isolation) for isolation in (True, False)),
    *(Way("shadow", "HVM, shadow paging", isolation) for isolation in (True, False)),
    Way("pv", "PV", None),
)


@dataclass(frozen=True)
class Boot:
    """What one boot gave."""

    cycles: Mapping[str, float]
    """Guest cycles of an operation, by its name: the median of the rounds, which a timer's interrupt does not move."""
    features: frozenset[str]
    """What the kernel's /proc/cpuinfo lists."""
    totals: Mapping[str, int]
    """Counts of the whole boot, by the names of ``Machine.statistics``."""


TOTALS = ("guest_cycles", "instructions", "hypercalls", "tlb_misses", "walk_references", "shadow_faults")


def boot(
    way: Way,
    kernel: Source,
    profile: Profile,
    memory: str | int = "256M",
    operations: Collection[str] = (),
    *,
    timeout: float | None = None,
    done: Callable[[], object] = lambda: None,
) -> Boot:
    """Boot a kernel in one way and time these operations, or all; ``done`` is called after the boot and after each.

    ``timeout`` is in seconds of host time. Raises ``GuestFailed`` where the guest does not end as it should, or does not
    isolate its page tables although it should; ``FileNotFoundError`` where the package was built without programs.
    """
    console = _Console(done)
    machine = Machine(memory, profile, paging="shadow" if way.name == "shadow" else "ept", serial=console)
    command_line = " ".join([way.command_line, *(["-- only", *operations] if operations else [])])
    machine.load(kernel, pv=way.name == "pv", append=command_line, initrd=initramfs())
    stop = machine.run(timeout=timeout)
    text = console.text()
    if stop.kind not in GOOD_ENDS or "signs done" not in text:
        raise GuestFailed(f"{way.description}: the kernel did not come to its end: {stop.reason or stop.kind.value}\n{text}")
    features = parse_features(text)
    if way.isolation is not None and ("pti" in features) != way.isolation:
        raise GuestFailed(
            f"{way.description}: the kernel isolates its page tables {'although' if 'pti' in features else 'not, although'} "
            f"it was told pti={_ON_OFF[way.isolation]}\n{text}"
        )
    counts = machine.statistics()
    totals = {"exits": machine.exits.total, **{name: int(counts[name]) for name in TOTALS}}
    return Boot(parse_cycles(text), features, totals)


class _Console:
    """Takes what the guest prints, and tells of each line of results."""

    def __init__(self, done: Callable[[], object]) -> None:
        self._octets = bytearray()
        self._done = done

    def __call__(self, octets: bytes) -> None:
        self._octets += octets
        if b"\n" in octets and self._octets[self._octets.rfind(b"\n", 0, -1) + 1 :].startswith((b"features", b"sign ")):
            self._done()

    def text(self) -> str:
        return self._octets.decode(errors="replace")


def initramfs() -> bytes:
    """The archive with /init and what it needs."""
    if not BUILT.exists():
        raise FileNotFoundError(f"{BUILT}: it is built on x86 hosts with gcc and binutils, and was not here")
    return archive(
        [
            directory("dev"),
            directory("proc"),
            character_device("dev/console", 5, 1),
            character_device("dev/null", 1, 3),
            character_device("dev/zero", 1, 5),
            executable("init", BUILT.read_bytes()),
        ]
    )


def parse_cycles(console: str) -> dict[str, float]:
    """Guest cycles an operation: the median of the rounds, by name."""
    found = {}
    for line in console.splitlines():
        if match := re.fullmatch(r"sign (\S+) (\d+)((?: \d+)+)", line.strip()):
            found[match[1]] = median(map(int, match[3].split())) / int(match[2])
    return found


def parse_features(console: str) -> frozenset[str]:
    """The features that the kernel found."""
    lines = (line.split() for line in console.splitlines())
    return frozenset(word for words in lines if words[:1] == ["features"] for word in words[1:])


# --- what follows from the boots --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """An operation in one way against nested paging."""

    ratio: float
    published: float | None
    expected: Sign | None

    @property
    def agrees(self) -> bool | None:
        """Whether the sign is the published one; None where none is."""
        return None if self.expected is None else Sign.of(self.ratio) is self.expected


@dataclass(frozen=True)
class Row:
    """An operation, with isolation or without."""

    operation: Operation
    isolation: bool
    cycles: Mapping[str, float]
    """Guest cycles by way."""

    def comparison(self, way: str) -> Comparison | None:
        """None where there is nothing to compare."""
        if way not in self.cycles or not self.cycles.get("ept"):
            return None
        published = self.operation.published(self.isolation)
        ratio = None if published is None else published.ratio(way)
        expected = None if ratio is None else Sign.of(ratio)
        if way == "shadow" and self.isolation and ratio is None:
            expected = Sign.DEARER  # of these the source is known by its signs only
        return Comparison(self.cycles[way] / self.cycles["ept"], ratio, expected)

    @property
    def agrees(self) -> bool | None:
        """Whether all signs that are published are right; None where none is."""
        verdicts = [found.agrees for way in ("shadow", "pv") if (found := self.comparison(way)) is not None]
        known = [verdict for verdict in verdicts if verdict is not None]
        return all(known) if known else None


@dataclass(frozen=True)
class Signs:
    """All boots, with one profile."""

    profile: Profile
    boots: Mapping[Way, Boot]

    @property
    def rows(self) -> Sequence[Row]:
        """First those with isolation."""
        return [
            Row(operation, isolation, cycles)
            for isolation in (True, False)
            for operation in OPERATIONS
            if (cycles := self._cycles(operation.name, isolation))
        ]

    def _cycles(self, name: str, isolation: bool) -> dict[str, float]:
        return {
            way.name: found.cycles[name]
            for way, found in self.boots.items()
            if way.isolation in (isolation, None) and name in found.cycles
        }

    @property
    def wrong(self) -> Sequence[Row]:
        """Those that have another sign than is published."""
        return [row for row in self.rows if row.agrees is False]

    def uses_pcid(self) -> bool:
        """Whether the HVM kernels give address spaces identifiers, so that their translations outlive a change of CR3."""
        return all("pcid" in found.features for way, found in self.boots.items() if way.name != "pv")


def signs_json(found: Signs) -> dict[str, Any]:
    """As data."""
    return {
        "profile": found.profile.name,
        "source": SOURCE,
        "pcid": found.uses_pcid(),
        "agree": not found.wrong,
        "operations": [_row_json(row) for row in found.rows],
        "boots": {
            way.description: {**result.totals, "features": sorted(result.features)}
            for way, result in found.boots.items()
        },
    }


def _row_json(row: Row) -> dict[str, Any]:
    comparisons = {way: row.comparison(way) for way in ("shadow", "pv")}
    return {
        "operation": row.operation.name,
        "pti": row.isolation,
        "guest_cycles": dict(row.cycles),
        "ratios_to_ept": {
            way: {
                "ratio": each.ratio,
                "sign": Sign.of(each.ratio).value,
                "published_ratio": each.published,
                "published_sign": each.expected and each.expected.value,
                "agrees": each.agrees,
            }
            for way, each in comparisons.items()
            if each is not None
        },
    }


# --- the kernel ---------------------------------------------------------------------------------------------------------


def find_kernel(stores: Iterable[Path] | None = None) -> Path | None:
    """Debian's kernel where `.ci/fetch-guests` unpacks it: below $HVMX_GUESTS, or .guests of this directory."""
    if stores is None:
        stores = [Path(os.environ.get("HVMX_GUESTS") or ".guests")]
    found = (path for store in stores for path in sorted(store.glob("linux-image-amd64/boot/vmlinuz-*-amd64")))
    return next(found, None)
