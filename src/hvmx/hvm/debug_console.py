"""The debug console port: writes send a byte, reads tell that the port is there."""

from __future__ import annotations

from hvmx.hvm.device import Device, Sink

PRESENT = 0xE9
"""The value of reads, wherever the port is placed: firmware and kernels look for it."""


class DebugConsole(Device):
    """Passes every byte written to `sink`."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def read(self, offset: int, width: int) -> int:
        return PRESENT

    def write(self, offset: int, width: int, value: int) -> None:
        self._sink(bytes((value,)))

    def reset(self) -> None:
        """There is nothing to reset."""
