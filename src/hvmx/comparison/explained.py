"""Where the cycles of each operation of the bundled guest went.

The guest keeps the windows of time in which its operations ran (``guests/common/windows.h``). A second run, which is the same
to the cycle, stops at each of their ends and reads the counters there.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from hvmx import guests
from hvmx.cost import FRACTION, Profile
from hvmx.debug.code import read_linear

from .ledger import NOTHING, Item, Part, Reading
from .outcome import Operation
from .ways import Way

if TYPE_CHECKING:
    from hvmx.machine import Machine

_COUNT = struct.Struct("<Q")
_WINDOW = struct.Struct("<QQIi")


@dataclass(frozen=True)
class Window:
    """A stretch of guest cycles in which operations ran, or (with sign -1) that would have passed anyway."""

    workload: str
    start: int
    end: int
    sign: int


def windows_of(machine: Machine, way: Way) -> list[Window]:
    """Those that the bundled guest has kept in its memory."""
    address = _symbol(way.bundled, "windows")
    (count,) = _COUNT.unpack(_read(machine, address, _COUNT.size))
    names = list(guests.WORKLOADS)
    rows = _WINDOW.iter_unpack(_read(machine, address + _COUNT.size, count * _WINDOW.size))
    return [Window(names[workload], start, end, sign) for start, end, workload, sign in rows]


def _read(machine: Machine, address: int, size: int) -> bytes:
    """Guest memory by linear address. ValueError where none is mapped."""
    data = read_linear(machine.cpu, address, size)
    if len(data) < size:
        raise ValueError(f"{address + len(data):#x} is not mapped")
    return data


def _symbol(environment: str, name: str) -> int:
    with guests.image(environment).open("rb") as file:
        tables = (section for section in ELFFile(file).iter_sections() if isinstance(section, SymbolTableSection))
        return int(next(symbol for table in tables for symbol in table.get_symbol_by_name(name) or ())["st_value"])


def explained(
    windows: list[Window], again: Machine, profile: Profile, way: Way, operations: Mapping[str, Operation]
) -> dict[str, Operation]:
    """The operations with their ledgers; ``again`` is a machine that is about to run as the one that had these windows did."""
    readings: dict[int, Reading] = {}
    again.cpu.find_hot()
    for cycle in sorted({edge for window in windows for edge in (window.start, window.end)}):
        again.run(cycle - again.cycles)
        readings[cycle] = Reading.of(again, with_classes=True)
    found = {}
    for name, operation in operations.items():
        sums = {1: NOTHING, -1: NOTHING}
        for window in windows:
            if window.workload == name:
                passed = readings[window.end] - readings[window.start]
                # The guest sees whole cycles.
                sums[window.sign] += replace(passed, units=(window.end - window.start) * FRACTION)
        items = sums[1].items(profile, way)
        if sums[-1].units:
            items.append(_anyway(sums[-1]))
        found[name] = replace(operation, ledger=tuple(items))
    return found


def _anyway(passed: Reading) -> Item:
    return Item(Part.CODE, "less the waiting loop alone, as many rounds", -passed.instructions, -passed.units)
