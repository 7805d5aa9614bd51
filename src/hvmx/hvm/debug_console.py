"""The debug console port: one byte out a write, and a read that says that it is there."""

from __future__ import annotations

from hvmx.hvm.device import Device, Sink

PRESENT = 0xE9
"""What a read gives, wherever the port is placed: firmware and kernels look for this number."""


class DebugConsole(Device):
    """Passes every byte written to `sink`."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def read(self, offset: int, width: int) -> int:
        return PRESENT

    def write(self, offset: int, width: int, value: int) -> None:
        self._sink(bytes((value,)))

    def reset(self) -> None:
        """Nothing to forget."""
