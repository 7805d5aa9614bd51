"""The result of a loader: plain data from which the machine is set up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from .cpu import CpuState

Octets = bytes | bytearray | memoryview


class ImageError(ValueError):
    """An image that cannot be booted; the message names the file and what is wrong, addresses in hex."""


class Segment(NamedTuple):
    """RAM from ``physical`` on: ``data``, then ``zero_fill`` bytes of zero."""

    physical: int
    data: Octets
    zero_fill: int = 0

    @property
    def end(self) -> int:
        """The first physical address behind the segment."""
        return self.physical + len(self.data) + self.zero_fill


class Rom(NamedTuple):
    """Read-only memory from ``physical`` on."""

    physical: int
    data: Octets


class Module(NamedTuple):
    """A file given to the guest beside its kernel.

    ``name``, which the guest sees, has no directories: the guest must not depend on paths of the host.
    """

    data: Octets
    name: str = ""


@dataclass(frozen=True)
class Prepared:
    """A machine ready to enter its guest: its memory, and its processor at the first instruction."""

    kind: str
    """The format: ``flat``, ``elf``, ``multiboot``, ``pvh``, ``linux`` or ``rom``."""
    description: str
    """One line for people: what was recognised and how it is entered."""
    cpu: CpuState
    memory: list[Segment] = field(default_factory=list)
    """By ascending address, without overlap, inside the guest's memory."""
    roms: list[Rom] = field(default_factory=list)
