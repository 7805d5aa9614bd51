"""Port 0x92, system control port A of the PS/2: A20 and the fast reset."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from hvmx.hvm.device import Device

_RESET, _A20 = 0x01, 0x02


class Port92(Device):
    """Bit 1 is an A20 gate; setting bit 0 resets the processor, and it stays set until written 0."""

    FIELDS: ClassVar[tuple[str, ...]] = ("control",)

    def __init__(self, on_a20: Callable[[], None], on_reset: Callable[[], None]) -> None:
        self._on_a20 = on_a20
        self._on_reset = on_reset
        self.control = 0

    @property
    def a20(self) -> bool:
        """Does the port let address line 20 through?"""
        return bool(self.control & _A20)

    def read(self, offset: int, width: int) -> int:
        return self.control

    def write(self, offset: int, width: int, value: int) -> None:
        before, self.control = self.control, value & (_RESET | _A20)
        if (before ^ self.control) & _A20:
            self._on_a20()
        if self.control & ~before & _RESET:
            self._on_reset()

    def reset(self) -> None:
        self.write(0, 1, 0)
