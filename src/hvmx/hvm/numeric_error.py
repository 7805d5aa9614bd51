"""The x87 error line of a PC: FERR# to interrupt input 13, and port 0xF0 to acknowledge it (SDM vol. 1, appendix D)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from hvmx.hvm.device import Device, IrqLine


class NumericError(Device):
    """FERR# drives the interrupt line until the guest writes to offset 0, which also asserts IGNNE#. It reads as ones."""

    FIELDS: ClassVar[tuple[str, ...]] = ("asserted",)

    def __init__(self, line: IrqLine, on_ignore: Callable[[], None]) -> None:
        self._line = line
        self._on_ignore = on_ignore
        self.asserted = False

    def error(self) -> None:
        """FERR# is active."""
        if not self.asserted:
            self.asserted = True
            self._line(True)

    def read(self, offset: int, width: int) -> int:
        return (1 << 8 * width) - 1

    def write(self, offset: int, width: int, value: int) -> None:
        if self.asserted:
            self._on_ignore()
        self.reset()

    def reset(self) -> None:
        if self.asserted:
            self.asserted = False
            self._line(False)
