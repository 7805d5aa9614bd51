"""A bus: routes addresses to devices, both I/O ports and memory-mapped registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hvmx.exits import OTHERS
from hvmx.hvm.device import Device

_DENSE = 4096
"""Regions up to this many bytes have a table entry for each byte, so that an access costs one look-up."""

_COUNTED = 1 << 16
"""How many unmapped addresses are counted singly: enough for all ports, and a bound on what a guest can use up."""

_MASK = {1: 0xFF, 2: 0xFFFF, 4: 0xFFFF_FFFF, 8: 0xFFFF_FFFF_FFFF_FFFF}


class Region(NamedTuple):
    """The device at `base` ... `base + length - 1`; `base` is `offset` to the device.

    A device is emulated in the hypervisor's kernel, or in its user space, which costs an exit extra cycles.
    """

    base: int
    length: int
    device: Device
    name: str
    offset: int
    in_kernel: bool


_Entry = tuple[Callable[[int, int], int], Callable[[int, int, int], None], int, int]
"""How the device is read and written, the offset there, and the widest access that is not split into bytes. No NamedTuple,
which takes 40 ns more of host time to unpack."""


class Bus:
    """Routes accesses of 1, 2, 4 or 8 bytes to devices, which only see offsets.

    Where there is no device, reads give all ones. Such accesses are counted in `unmapped_reads` and `unmapped_writes`
    (address to count; beyond a bound all others under `OTHERS`).
    """

    def __init__(self, name: str, size: int = 1 << 64) -> None:
        """`size` is the number of addresses."""
        self.name = name
        self._size = size
        self.regions: list[Region] = []
        self._watchers: list[Callable[[Region], None]] = []
        self.unmapped_reads: dict[int, int] = {}
        self.unmapped_writes: dict[int, int] = {}
        self._dense: dict[int, _Entry] = {}
        self._large: list[Region] = []

    def add(
        self, base: int, length: int, device: Device, name: str, offset: int = 0, *, in_kernel: bool = False
    ) -> None:
        """Place `device` at `base`, where it sees `offset`; ValueError if a byte of it is taken.

        From then on it belongs to the board: it is asked for its events, reset and saved like all others there. An access
        goes on to the hypervisor's user space, at the profile's price, unless the device is `in_kernel`.
        """
        if not isinstance(device, Device):
            raise TypeError(f"{name}: what is placed on a bus is a hvmx.hvm.device.Device, not {device!r}")
        if base < 0 or length <= 0 or base + length > self._size:
            raise ValueError(f"{name}: {length} bytes at {base:#x} is no range of the {self.name} bus")
        region = Region(base, length, device, name, offset, in_kernel)
        for other in self.regions:
            if base < other.base + other.length and other.base < base + length:
                raise ValueError(f"{self.name} bus: {_span(region)} overlaps {_span(other)}")
        self.regions.append(region)
        if length > _DENSE:
            self._large.append(region)
        else:
            for address in range(base, base + length):
                self._dense[address] = _entry(region, address)
        for watcher in self._watchers:
            watcher(region)

    def watch(self, watcher: Callable[[Region], None]) -> None:
        """Call `watcher` with every region that is there, and with each that is added."""
        for region in self.regions:
            watcher(region)
        self._watchers.append(watcher)

    def read(self, address: int, width: int) -> int:
        """Read `width` bytes at `address`, little end first."""
        entry = self._dense.get(address)
        if entry is not None:
            read, _, offset, room = entry
            if width <= room:
                return read(offset, width)
        return self._read_slowly(address, width)

    def write(self, address: int, width: int, value: int) -> None:
        """Write the low `width` bytes of `value` at `address`, little end first."""
        entry = self._dense.get(address)
        if entry is not None:
            _, write, offset, room = entry
            if width <= room:
                write(offset, width, value & _MASK[width])
                return
        self._write_slowly(address, width, value)

    def _find(self, address: int) -> _Entry | None:
        entry = self._dense.get(address)
        if entry is None:
            for region in self._large:
                if region.base <= address < region.base + region.length:
                    return _entry(region, address)
        return entry

    def _any(self, address: int, width: int) -> bool:
        return any(self._find(address + byte) for byte in range(width))

    def _read_slowly(self, address: int, width: int) -> int:
        entry = self._find(address)
        if entry is not None:
            read, _, offset, room = entry
            if width <= room:
                return read(offset, width)
        if width == 1 or not self._any(address, width):
            _count(self.unmapped_reads, address)
            return _MASK[width]
        return sum(self.read(address + byte, 1) << 8 * byte for byte in range(width))

    def _write_slowly(self, address: int, width: int, value: int) -> None:
        entry = self._find(address)
        if entry is not None:
            _, write, offset, room = entry
            if width <= room:
                write(offset, width, value & _MASK[width])
                return
        if width == 1 or not self._any(address, width):
            _count(self.unmapped_writes, address)
        else:
            for byte in range(width):
                self.write(address + byte, 1, value >> 8 * byte)


def _entry(region: Region, address: int) -> _Entry:
    into = address - region.base
    room = min(region.device.WIDEST, region.length - into)
    return region.device.read, region.device.write, region.offset + into, room


def _span(region: Region) -> str:
    return f"{region.name} at {region.base:#x}-{region.base + region.length - 1:#x}"


def _count(counts: dict[int, int], address: int) -> None:
    count = counts.get(address)
    if count is None and len(counts) >= _COUNTED:
        address, count = OTHERS, counts.get(OTHERS)
    counts[address] = (count or 0) + 1
