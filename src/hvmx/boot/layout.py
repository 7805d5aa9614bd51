"""The guest-physical address space for all loaders: where RAM is, and which of it is in use.

    0x00000000  RAM                     (the first page, with the real-mode vectors, is never allocated)
    0x00000400  the BIOS data area, for guests that expect to be started by a boot loader after a BIOS
    0x0009fc00  reserved: the EBDA
    0x000a0000  not RAM: the video window and option ROMs
    0x000f0000  reserved: firmware
    0x00100000  RAM up to the size of memory, at most to 3 GiB
    0xc0000000  not RAM: devices, and the reset vector's ROM below 4 GiB
    0x100000000 RAM: the rest of memory

Memory below 1 MiB counts whole, so that a guest of N bytes (N up to 3 GiB) ends at address N.
"""

from __future__ import annotations

import struct
from bisect import bisect_right, insort
from enum import IntEnum
from typing import NamedTuple

from .cpu import boot_gdt
from .prepared import ImageError, Octets, Segment

PAGE = 0x1000
# The BIOS data area (IBM PS/2 and PC BIOS interface technical reference, "ROM BIOS data areas"): the segment of the
# extended BIOS data area, and the KiB of memory below it.
BDA_EBDA_SEGMENT, BDA_MEMORY_KIB = 0x40E, 0x413
EBDA = 0x9FC00
VIDEO_WINDOW = 0xA0000
SHADOW = 0xE0000
FIRMWARE = 0xF0000
HIGH_MEMORY = 0x100000
DEVICE_HOLE = 0xC000_0000
FOUR_GIB = 0x1_0000_0000


class RegionType(IntEnum):
    """Address range types of ACPI 6.2, table 15-312: e820's, Multiboot's and PVH's numbers alike."""

    RAM = 1
    RESERVED = 2


class Region(NamedTuple):
    """``size`` bytes from ``base`` on: an entry of the guest's memory map."""

    base: int
    size: int
    type: RegionType


def memory_map(memory_bytes: int, *, hole: bool = True) -> list[Region]:
    """The memory map that the guest is given, by ascending address, for ``memory_bytes`` of memory.

    Without ``hole`` it is that of the bare machine: RAM in one piece.
    """
    if not hole:
        return [Region(0, memory_bytes, RegionType.RAM)]
    spans = [
        (0, min(EBDA, memory_bytes), RegionType.RAM),
        (EBDA, VIDEO_WINDOW, RegionType.RESERVED),
        (FIRMWARE, HIGH_MEMORY, RegionType.RESERVED),
        (HIGH_MEMORY, min(DEVICE_HOLE, memory_bytes), RegionType.RAM),
        (FOUR_GIB, FOUR_GIB + memory_bytes - DEVICE_HOLE, RegionType.RAM),
    ]
    return [Region(base, end - base, kind) for base, end, kind in spans if base < end]


class Placement:
    """Places an image, and what the loader adds to it, in RAM; nothing can overlap, or be outside of it."""

    def __init__(self, regions: list[Region], name: str) -> None:
        """``regions`` is the guest's memory map, ascending; ``name`` is the image's file, for messages."""
        self.name = name
        self.regions = regions
        self._ram = [(r.base, r.base + r.size) for r in regions if r.type is RegionType.RAM]
        self._taken: list[tuple[int, int]] = []
        self._segments: list[Segment] = []

    @property
    def segments(self) -> list[Segment]:
        """The segments placed so far, by ascending address."""
        return sorted(self._segments, key=lambda segment: segment.physical)

    @property
    def high_memory_end(self) -> int:
        """The end of the RAM at 1 MiB; 1 MiB if there is none."""
        return max((end for base, end in self._ram if base <= HIGH_MEMORY < end), default=HIGH_MEMORY)

    @property
    def low_memory_end(self) -> int:
        """The end of the RAM that starts at 0: the start of the EBDA, or less."""
        return max((min(end, EBDA) for base, end in self._ram if base == 0), default=0)

    def error(self, problem: str) -> ImageError:
        """An ``ImageError`` that names the image."""
        return ImageError(f"{self.name}: {problem}")

    def place(self, physical: int, data: Octets, what: str, *, zero_fill: int = 0) -> None:
        """Puts ``data``, then ``zero_fill`` zeros, at ``physical``; ``ImageError`` if they do not fit."""
        end = physical + len(data) + zero_fill
        if end == physical:
            return
        if not any(base <= physical and end <= top for base, top in self._ram):
            raise self.error(
                f"{what} at {physical:#x} to {end:#x} is outside the guest's RAM ({self._ram_text()})"
            )
        after = bisect_right(self._taken, (physical, physical))
        for base, top in self._taken[max(after - 1, 0) : after + 1]:
            if physical < top and base < end:
                raise self.error(
                    f"{what} at {physical:#x} to {end:#x} overlaps what is at {base:#x} to {top:#x}"
                )
        insort(self._taken, (physical, end))
        self._segments.append(Segment(physical, data, zero_fill))

    def allocate(
        self,
        size: int,
        what: str,
        *,
        align: int = 16,
        start: int = PAGE,
        end: int = VIDEO_WINDOW,
        high: bool = False,
    ) -> int:
        """The lowest aligned address of ``size`` free bytes of RAM between ``start`` and ``end``.

        The highest with ``high``. It is taken once something is placed there.
        """
        gaps = self._gaps(start, end)
        for base, top in reversed(gaps) if high else gaps:
            physical = (top - size) & -align if high else (base + align - 1) & -align
            if base <= physical and physical + size <= top:
                return physical
        raise self.error(
            f"{what} of {size:#x} bytes does not fit between {start:#x} and {end:#x} beside the image "
            f"(RAM: {self._ram_text()})"
        )

    def add(
        self,
        data: Octets,
        what: str,
        *,
        align: int = 16,
        start: int = PAGE,
        end: int = VIDEO_WINDOW,
        high: bool = False,
    ) -> int:
        """Places ``data`` where ``allocate`` finds room for it, and returns its address."""
        physical = self.allocate(len(data), what, align=align, start=start, end=end, high=high)
        self.place(physical, data, what)
        return physical

    def _gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """The free RAM from ``start`` to ``end``, ascending, without the real-mode vectors' page."""
        gaps = []
        for base, top in self._ram:
            base, top = max(base, start, PAGE), min(top, end)
            for taken, behind in self._taken:
                if base < taken < top:
                    gaps.append((base, taken))
                if taken < top:
                    base = max(base, behind)
            if base < top:
                gaps.append((base, top))
        return gaps

    def _ram_text(self) -> str:
        return ", ".join(f"{base:#x} to {end:#x}" for base, end in self._ram)

    def add_string(self, text: str, what: str, *, limit: int = 0xFFFF) -> int:
        """Places ``text``, of at most ``limit`` bytes, and a closing zero below the video window."""
        octets = text.encode("utf-8", "surrogateescape")
        if b"\0" in octets:
            raise self.error(
                f"{what} has a zero byte at {octets.index(0):#x}, where the guest would see its end"
            )
        if len(octets) > limit:
            raise self.error(f"{what} is {len(octets)} bytes long, the image takes at most {limit}")
        return self.add(octets + b"\0", what)

    def add_bios_data(self) -> None:
        """Places the words of the BIOS data area that tell a guest where its low memory ends."""
        self.place(BDA_EBDA_SEGMENT, struct.pack("<H", EBDA >> 4), "the BIOS data area")
        self.place(BDA_MEMORY_KIB, struct.pack("<H", self.low_memory_end >> 10), "the BIOS data area")

    def add_gdt(self, *, long: bool) -> int:
        """Places the boot GDT below the video window."""
        return self.add(boot_gdt(long=long), "the boot GDT")

    def add_stack(self, *, end: int = VIDEO_WINDOW) -> int:
        """Places one page of stack below ``end`` and returns its top."""
        return self.add(bytes(PAGE), "the boot stack", align=PAGE, end=end) + PAGE

    def add_identity_map(self) -> int:
        """Places page tables that map the first 4 GiB to themselves in writable 2 MiB pages; returns CR3."""
        physical = self.allocate(6 * PAGE, "the identity map", align=PAGE)
        present_writable, large = 0x03, 0x80
        pdpt, directories = physical + PAGE, physical + 2 * PAGE
        entries = [pdpt | present_writable] + [0] * 511
        entries += [directories + PAGE * i | present_writable for i in range(4)] + [0] * 508
        entries += [i << 21 | present_writable | large for i in range(4 * 512)]
        self.place(physical, b"".join(entry.to_bytes(8, "little") for entry in entries), "the identity map")
        return physical
