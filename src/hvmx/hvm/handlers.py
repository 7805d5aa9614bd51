"""The exit handlers that reach the board: port I/O and memory-mapped registers.

An exit here has `width` in bytes and `value`; a handler sets `value` where the guest reads.
"""

from __future__ import annotations

from typing import Protocol

from hvmx.hvm.board import Board


class VirtualCpu(Protocol):
    """What the handlers need of a vCPU."""

    @property
    def board(self) -> Board: ...


class IoExit(Protocol):
    """An I/O instruction exit (SDM vol. 3, table 27-5); string I/O exits once for each iteration."""

    value: int

    @property
    def port(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def is_in(self) -> bool: ...


class MmioExit(Protocol):
    """An access to guest-physical addresses without memory."""

    value: int

    @property
    def guest_physical(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def is_write(self) -> bool: ...


def io_instruction(vcpu: VirtualCpu, exit: IoExit) -> None:
    """IN and OUT."""
    if exit.is_in:
        exit.value = vcpu.board.ports.read(exit.port, exit.width)
    else:
        vcpu.board.ports.write(exit.port, exit.width, exit.value)


def mmio(vcpu: VirtualCpu, exit: MmioExit) -> None:
    """Loads and stores of a device's registers."""
    if exit.is_write:
        vcpu.board.mmio.write(exit.guest_physical, exit.width, exit.value)
    else:
        exit.value = vcpu.board.mmio.read(exit.guest_physical, exit.width)
