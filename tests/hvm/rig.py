"""A board on a clock that a test moves, with everything that leaves the board written down."""

from __future__ import annotations

from hvmx.hvm.board import Board
from hvmx.hvm.device import Sink

HZ = 100_000_000
"""Guest cycles in a second, unless a test says otherwise."""


class ManualClock:
    """A clock that goes only when a test says so."""

    def __init__(self, hz: int = HZ) -> None:
        self.cycles = 0
        self.hz = hz


class Line:
    """An interrupt wire that remembers."""

    def __init__(self) -> None:
        self.level = False
        self.rises = 0

    def __call__(self, level: bool) -> None:
        assert level != self.level, f"the line was driven to {level} twice"
        self.level = level
        self.rises += level


class Rig:
    """The board, its clock and its records."""

    def __init__(
        self,
        *,
        hz: int = HZ,
        memory_bytes: int = 64 << 20,
        debugcon: int | None = None,
        debug_exit: int | None = None,
        epoch: int | None = None,
    ) -> None:
        self.clock = ManualClock(hz)
        self.sent = bytearray()
        self.debugged = bytearray()
        self.interrupts: list[bool] = []
        self.a20: list[bool] = []
        self.resets = 0
        self.shutdowns: list[int] = []
        self.ignored_errors = 0
        console: tuple[int, Sink] | None = None if debugcon is None else (debugcon, self.debugged.extend)
        self.board = Board(
            self.clock,
            memory_bytes,
            serial=self.sent.extend,
            on_interrupt=self.interrupts.append,
            on_reset=self._reset,
            on_a20=self.a20.append,
            on_shutdown=self.shutdowns.append,
            on_ignore_error=self._ignore_error,
            debug_exit=debug_exit,
            debugcon=console,
            **({} if epoch is None else {"epoch": epoch}),
        )

    def _reset(self) -> None:
        self.resets += 1

    def _ignore_error(self) -> None:
        self.ignored_errors += 1

    def out(self, port: int, *values: int) -> None:
        """Write bytes to a port, one after the other."""
        for value in values:
            self.board.ports.write(port, 1, value)

    def read(self, port: int) -> int:
        """Read a byte."""
        return self.board.ports.read(port, 1)

    def wait(self, cycles: int) -> None:
        """Let guest cycles pass, stopping at every event on the way as a run loop does."""
        end = self.clock.cycles + cycles
        while (due := self.board.next_event()) is not None and due <= end:
            assert due > self.clock.cycles, f"an event at {due} is still due at {self.clock.cycles}"
            self.clock.cycles = due
            self.board.advance(due)
        self.clock.cycles = end
        self.board.advance(end)

    def wait_seconds(self, seconds: float) -> None:
        self.wait(int(seconds * self.clock.hz))
