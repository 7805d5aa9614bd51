"""Port 0x61 of the PC AT: the speaker's gate and the timer's outputs."""

from __future__ import annotations

from typing import ClassVar

from hvmx.hvm.device import Device
from hvmx.hvm.pit import Pit

_REFRESH_TICKS = 18
"""Timer ticks from one memory refresh to the next, 15.1 us; bit 4 toggles with each."""


class Port61(Device):
    """Bit 0 is the gate of counter 2, 1 that of the speaker, 2 and 3 mask parity checks; 4 is refresh, 5 counter 2's
    OUT."""

    FIELDS: ClassVar[tuple[str, ...]] = ("control",)

    def __init__(self, pit: Pit) -> None:
        self._pit = pit
        self.control = 0

    def read(self, offset: int, width: int) -> int:
        refresh = self._pit.ticks() // _REFRESH_TICKS & 1
        return self.control | refresh << 4 | self._pit.out2() << 5

    def write(self, offset: int, width: int, value: int) -> None:
        self.control = value & 0x0F
        self._pit.set_gate2(bool(value & 1))

    def reset(self) -> None:
        self.write(0, 1, 0)
