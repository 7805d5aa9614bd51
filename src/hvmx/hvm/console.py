"""The host side of the serial port: where bytes go to, and where they come from without ever waiting."""

from __future__ import annotations

import io
import os
import select
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TextIO, final

_ESCAPE = 0x01  # Ctrl-A
_QUIT = ord("x")


def null_sink(data: bytes) -> None:
    """Drops what it gets."""


class StreamSink:
    """Writes to a binary stream: at once to a terminal, else a line at a time, and the rest at `flush`."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._interactive = stream.isatty()

    def __call__(self, data: bytes) -> None:
        self._stream.write(data)
        if self._interactive or b"\n" in data:
            self._stream.flush()

    def flush(self) -> None:
        """Bring everything out."""
        self._stream.flush()

    def close(self) -> None:
        """Flush, and close the stream unless it is standard output."""
        if self._stream is sys.stdout.buffer:
            self._stream.flush()
        else:
            self._stream.close()


def stdout_sink() -> StreamSink:
    """Standard output."""
    return StreamSink(sys.stdout.buffer)


class _NamedFile(io.FileIO):
    """A file, written anew, whose errors say which it is."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w")

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as problem:
            problem.filename = str(self.name)
            raise


def file_sink(path: Path) -> StreamSink:
    """A file, written anew; OSError, with its name, where that cannot be."""
    return StreamSink(io.BufferedWriter(_NamedFile(path)))


def text_file(path: Path) -> TextIO:
    """The same for text."""
    return io.TextIOWrapper(io.BufferedWriter(_NamedFile(path)), encoding="utf-8")


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
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            if not self._ready(left):
                break
            data = self.poll(limit)
            if data:
                return data
        return b""

    def _ready(self, seconds: float | None) -> bool:
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
