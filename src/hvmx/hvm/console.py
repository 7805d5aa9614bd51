"""The host side of the serial port: where bytes go to, and where they come from without ever waiting."""

from __future__ import annotations

import errno
import io
import os
import select
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, final

_ESCAPE = 0x01  # Ctrl-A
_QUIT = ord("x")
LOOK_UP = 0.05
"""Seconds of host time: a signal that comes just before select() does not end it, and is handled after it."""


def null_sink(data: bytes) -> None:
    """Drops what it gets."""


class Output(io.FileIO):
    """A file written anew, whose errors say which it is, or an open descriptor, which stays open.

    After ``until``, in seconds of time.monotonic(), to write where nobody reads is a TimeoutError.
    """

    def __init__(self, place: Path | int, until: float | None = None) -> None:
        super().__init__(place, "w", closefd=isinstance(place, Path))
        self.until = until

    def write(self, data: Any) -> int:
        try:
            if self.until is None:
                return super().write(data)
            if not select.select([], [self], [], max(self.until - time.monotonic(), 0.0))[1]:
                raise TimeoutError(errno.ETIMEDOUT, "nobody takes what is written")
            # As much as a pipe that is ready takes without waiting.
            return super().write(memoryview(data)[: select.PIPE_BUF])
        except OSError as problem:
            if isinstance(self.name, Path):
                problem.filename = str(self.name)
            raise


class StreamSink:
    """Writes to a file or an open descriptor: at once to a terminal, else a line at a time, and the rest at `flush`.

    A sink that is given no place is wired up first, and opened before the guest runs.
    """

    def __init__(self, place: Path | int | None = None) -> None:
        self._stream: io.BufferedWriter
        self._interactive: bool
        if place is not None:
            self.open(Output(place))

    def open(self, output: Output) -> None:
        """From now on write there."""
        self._stream = io.BufferedWriter(output)
        self._interactive = output.isatty()

    def __call__(self, data: bytes) -> None:
        self._stream.write(data)
        if self._interactive or b"\n" in data:
            self._stream.flush()

    def flush(self) -> None:
        """Bring everything out."""
        self._stream.flush()

    def close(self) -> None:
        """Flush, but for what nobody has taken in time, and close a file."""
        with suppress(TimeoutError):
            self._stream.close()


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@final
class KeySource:
    """Input from a file descriptor, standard input by default, polled; a terminal is in raw mode meanwhile.

    Ctrl-A x sets `quit`; Ctrl-A Ctrl-A sends one Ctrl-A. On a terminal Ctrl-C goes to the guest. Use it as a
    context manager: leaving it restores the terminal. `flush` is called before input is looked for: whoever types
    has then seen all that the guest said.
    """

    def __init__(self, descriptor: int = 0, flush: Callable[[], None] | None = None) -> None:
        self.quit = False
        self.ended = not _is_open(descriptor)
        self._descriptor = descriptor
        self._flush = flush
        self._escaped = False
        self._saved: list[Any] | None = None

    def __enter__(self) -> KeySource:
        if os.isatty(self._descriptor):
            self._saved = termios.tcgetattr(self._descriptor)
            raw = termios.tcgetattr(self._descriptor)
            raw[0] &= ~(
                termios.BRKINT | termios.PARMRK | termios.ISTRIP
                | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
            )  # fmt: skip
            # Output processing stays: the host's own messages share the terminal.
            raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
            raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
            termios.tcsetattr(self._descriptor, termios.TCSANOW, raw)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._saved is not None:
            termios.tcsetattr(self._descriptor, termios.TCSANOW, self._saved)
            self._saved = None

    @property
    def interactive(self) -> bool:
        """Whether a person types: at a terminal."""
        return self._saved is not None

    def poll(self, limit: int) -> bytes:
        """At most `limit` bytes that are there already; empty if there are none, or no more."""
        if self.ended or not self._ready(0.0) or limit <= 0:
            return b""
        try:
            data = os.read(self._descriptor, limit)
        except OSError:  # a terminal that has hung up, a directory: there is no more to come
            data = b""
        if not data:
            self.ended = True
        # A pipe may carry any byte: only a terminal has an escape.
        return self._unescape(data) if self.interactive else data

    def wait(self, limit: int, seconds: float | None = None) -> bytes:
        """Like `poll`, but waits; empty at the end of input, on Ctrl-A x, or after `seconds` of host time."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while limit > 0 and not self.ended and not self.quit:
            left = LOOK_UP if deadline is None else max(deadline - time.monotonic(), 0.0)
            if self._ready(min(left, LOOK_UP)):
                data = self.poll(limit)
                if data:
                    return data
            elif left <= LOOK_UP and deadline is not None:
                break
        return b""

    def _ready(self, seconds: float) -> bool:
        if self._flush is not None:
            self._flush()
        return bool(select.select([self._descriptor], [], [], seconds)[0])

    def _unescape(self, data: bytes) -> bytes:
        taken = bytearray()
        for value in data:
            if not self._escaped:
                if value == _ESCAPE:
                    self._escaped = True
                else:
                    taken.append(value)
                continue
            self._escaped = False
            if value == _QUIT:
                self.quit = True
            elif value == _ESCAPE:
                taken.append(value)
        return bytes(taken)
