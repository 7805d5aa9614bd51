"""A person at a guest's console: waits for the prompt, types a line, reads what comes until the next prompt."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
import tty
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import final

from linux.initramfs import CONTINUATION, PROMPT

CONTROL_A, CONTROL_C = "\x01", "\x03"

#: The shell's line editor asks the terminal where its cursor is, unless something has been typed ahead. Nobody needs
#: to answer, but only now does it read.
_READS = "\x1b[6n"


class ConsoleError(Exception):
    """The prompt did not come."""


@final
class Console:
    """A guest's console on the pipes of an emulator's process, or on its terminal; the process ends with this context."""

    def __init__(self, command: Sequence[str | Path], *, seconds: float, terminal: bool = False) -> None:
        """`seconds` of host time are the most that one command may take."""
        self._seconds = seconds
        if terminal:
            self._keys, ours = pty.openpty()
            tty.setraw(ours)
            self._screen = self._keys
            self._process = subprocess.Popen(command, stdin=ours, stdout=ours, stderr=subprocess.PIPE)
            os.close(ours)
        else:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
            )
            assert self._process.stdin is not None and self._process.stdout is not None
            self._keys, self._screen = self._process.stdin.fileno(), self._process.stdout.fileno()

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        if self._process.stdin is None:
            os.close(self._keys)

    def wait(self) -> tuple[int, str]:
        """The exit status of the process, once the guest has ended, and its standard error."""
        _, errors = self._process.communicate(timeout=self._seconds)
        return self._process.returncode, errors.decode(errors="replace")

    def read_to(self, *ends: str) -> str:
        """What the guest writes up to the first of `ends`, which must be the last that it writes."""
        output, deadline = b"", time.monotonic() + self._seconds
        while not output.endswith(tuple(end.encode() for end in ends)):
            left = max(deadline - time.monotonic(), 0)
            ready, _, _ = select.select([self._screen], [], [], left)
            octets = os.read(self._screen, 0x10000) if ready else b""
            if not octets:
                why = "it ended" if ready else f"{self._seconds} s passed"
                raise ConsoleError(f"no {ends} from the guest: {why} after {output[-2000:]!r}")
            output += octets
        return output.decode(errors="replace").replace("\r\n", "\n")

    def send(self, text: str) -> None:
        """Type `text`."""
        os.write(self._keys, text.encode())

    def command(self, line: str) -> str:
        """What the guest answers to a line: its echo, the output and the next prompt."""
        self.send(line + "\n")
        return self.read_to_prompt()

    def read_to_prompt(self) -> str:
        """What the guest writes until its shell reads the next line."""
        return self.read_to(PROMPT + _READS, CONTINUATION + _READS)
