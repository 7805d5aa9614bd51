"""A person at a guest's console: waits for the prompt, types a line, reads what comes until the next prompt."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import final

from linux.initramfs import CONTINUATION, PROMPT

CONTROL_C = "\x03"

#: The shell's line editor asks the terminal where its cursor is, unless something has been typed ahead. Nobody needs
#: to answer, but only now does it read.
_READS = "\x1b[6n"


class ConsoleError(Exception):
    """The prompt did not come."""


@final
class Console:
    """A guest's console on the pipes of an emulator's process, which ends with this context."""

    def __init__(self, command: Sequence[str | Path], *, seconds: float) -> None:
        """`seconds` of host time are the most that one command may take."""
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        self._seconds = seconds

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def wait(self) -> tuple[int, str]:
        """The exit status of the process, once the guest has ended, and its standard error."""
        _, errors = self._process.communicate(timeout=self._seconds)
        return self._process.returncode, errors.decode(errors="replace")

    def read_to(self, *ends: str) -> str:
        """What the guest writes up to the first of `ends`, which must be the last that it writes."""
        assert self._process.stdout is not None
        output, deadline = b"", time.monotonic() + self._seconds
        while not output.endswith(tuple(end.encode() for end in ends)):
            left = max(deadline - time.monotonic(), 0)
            ready, _, _ = select.select([self._process.stdout], [], [], left)
            octets = os.read(self._process.stdout.fileno(), 0x10000) if ready else b""
            if not octets:
                why = "it ended" if ready else f"{self._seconds} s passed"
                raise ConsoleError(f"no {ends} from the guest: {why} after {output[-2000:]!r}")
            output += octets
        return output.decode(errors="replace").replace("\r\n", "\n")

    def send(self, text: str) -> None:
        """Type `text`."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())

    def command(self, line: str) -> str:
        """What the guest answers to a line: its echo, the output and the next prompt."""
        self.send(line + "\n")
        return self.read_to_prompt()

    def read_to_prompt(self) -> str:
        """What the guest writes until its shell reads the next line."""
        return self.read_to(PROMPT + _READS, CONTINUATION + _READS)
