"""What the bus promises to devices and guests."""

from __future__ import annotations

import pytest

from hvmx.exits import OTHERS
from hvmx.hvm.bus import Bus
from hvmx.hvm.device import Device


class Registers(Device):
    """Remembers what it was asked."""

    def __init__(self, widest: int = 1) -> None:
        self.WIDEST = widest  # type: ignore[misc]
        self.asked: list[tuple[int, ...]] = []

    def read(self, offset: int, width: int) -> int:
        self.asked.append((offset, width))
        return 0x1122_3344_5566_7788 & (1 << 8 * width) - 1 if width > 1 else 0x10 + offset

    def write(self, offset: int, width: int, value: int) -> None:
        self.asked.append((offset, width, value))

    def reset(self) -> None:
        """Nothing."""


def test_a_device_sees_offsets_only() -> None:
    bus, device = Bus("port"), Registers()
    bus.add(0x3F8, 8, device, "serial")
    bus.write(0x3FB, 1, 0x80)
    assert bus.read(0x3FD, 1) == 0x15
    assert device.asked == [(3, 1, 0x80), (5, 1)]


def test_a_device_in_two_places_tells_them_apart() -> None:
    bus, device = Bus("port"), Registers()
    bus.add(0x60, 1, device, "data")
    bus.add(0x64, 1, device, "command", offset=4)
    assert (bus.read(0x60, 1), bus.read(0x64, 1)) == (0x10, 0x14)


@pytest.mark.parametrize(("base", "length"), [(0x3F8, 8), (0x3F7, 2), (0x3FF, 1), (0x300, 0x200)])
def test_an_overlap_names_both_in_hex(base: int, length: int) -> None:
    bus = Bus("port")
    bus.add(0x3F8, 8, Registers(), "serial")
    with pytest.raises(ValueError, match="port bus: modem at 0x3.*-0x.* overlaps serial at 0x3f8-0x3ff"):
        bus.add(base, length, Registers(), "modem")
    assert len(bus.regions) == 1


def test_neighbours_do_not_overlap() -> None:
    bus = Bus("port")
    bus.add(0x3F8, 8, Registers(), "serial")
    bus.add(0x3F7, 1, Registers(), "before")
    bus.add(0x400, 1, Registers(), "after")
    assert [region.base for region in bus.regions] == [0x3F8, 0x3F7, 0x400]


@pytest.mark.parametrize(("base", "length"), [(-1, 1), (0, 0)])
def test_an_impossible_range_is_refused(base: int, length: int) -> None:
    with pytest.raises(ValueError, match="no range of the port bus"):
        Bus("port").add(base, length, Registers(), "none")


@pytest.mark.parametrize(("width", "ones"), [(1, 0xFF), (2, 0xFFFF), (4, 0xFFFF_FFFF), (8, (1 << 64) - 1)])
def test_unmapped_reads_give_all_ones_and_are_counted(width: int, ones: int) -> None:
    bus = Bus("MMIO")
    assert bus.read(0xFED0_0000, width) == ones
    assert bus.read(0xFED0_0000, width) == ones
    bus.write(0xFED0_0004, width, 5)
    assert bus.unmapped_reads == {0xFED0_0000: 2}
    assert bus.unmapped_writes == {0xFED0_0004: 1}


def test_a_guest_cannot_make_the_counts_grow_without_end() -> None:
    bus = Bus("MMIO")
    for address in range(70_000):
        bus.read(address, 1)
    assert len(bus.unmapped_reads) == 65_537
    assert bus.unmapped_reads[OTHERS] == 70_000 - 65_536


def test_a_wide_access_to_a_byte_device_is_split_little_end_first() -> None:
    bus, device = Bus("port"), Registers()
    bus.add(0x40, 4, device, "timer")
    assert bus.read(0x40, 4) == 0x13121110
    bus.write(0x42, 2, 0xABCD)
    assert device.asked[-2:] == [(2, 1, 0xCD), (3, 1, 0xAB)]


def test_a_wide_device_gets_the_access_whole() -> None:
    bus, device = Bus("MMIO"), Registers(widest=8)
    bus.add(0x1000, 16, device, "wide")
    assert bus.read(0x1008, 8) == 0x1122_3344_5566_7788
    bus.write(0x1000, 4, 0xFFFF_FFFF_FFFF)
    assert device.asked == [(8, 8), (0, 4, 0xFFFF_FFFF)]


def test_a_wide_access_over_a_wide_device_end_is_split() -> None:
    bus, device = Bus("MMIO"), Registers(widest=8)
    bus.add(0x1000, 16, device, "wide")
    bus.write(0x100E, 4, 0x4433_2211)
    assert device.asked == [(14, 1, 0x11), (15, 1, 0x22)]
    assert bus.unmapped_writes == {0x1010: 1, 0x1011: 1}


def test_an_access_over_a_device_end_reaches_both_sides() -> None:
    bus = Bus("port")
    bus.add(0x3F8, 8, Registers(), "serial")
    assert bus.read(0x3FE, 4) == 0xFFFF_1716
    assert bus.unmapped_reads == {0x400: 1, 0x401: 1}
    assert bus.read(0x3F7, 2) == 0x10FF


def test_a_large_region_is_reached_at_both_ends() -> None:
    bus, device = Bus("MMIO"), Registers(widest=4)
    bus.add(0xA0000, 0x20000, device, "frame buffer")
    bus.write(0xA0000, 4, 1)
    bus.write(0xBFFFC, 4, 2)
    bus.write(0xC0000, 4, 3)
    assert device.asked == [(0, 4, 1), (0x1FFFC, 4, 2)]
    assert bus.unmapped_writes == {0xC0000: 1}
