"""The debug-exit port: the guest writes a number to end the run, as the test suites of kernels do."""

from __future__ import annotations

from collections.abc import Callable

from hvmx.hvm.device import Device

LENGTH = 4
"""The number of ports of the device."""


class DebugExit(Device):
    """A write of any width calls `on_exit` with the value; a read gives all ones."""

    WIDEST = LENGTH

    def __init__(self, on_exit: Callable[[int], None]) -> None:
        self._on_exit = on_exit

    def read(self, offset: int, width: int) -> int:
        return (1 << 8 * width) - 1

    def write(self, offset: int, width: int, value: int) -> None:
        self._on_exit(value)

    def reset(self) -> None:
        """There is nothing to reset."""
