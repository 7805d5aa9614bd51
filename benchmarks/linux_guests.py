"""What the benchmarks of Linux have in common: hvmx and QEMU's 64-bit translator, and when a guest says what."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from peers import Hvmx, Qemu


def require_both() -> None:
    """Skip the calling benchmark, with the reason, where one of the two is missing."""
    reason = Hvmx().missing() or Qemu().missing()
    if reason is None and shutil.which("qemu-system-x86_64") is None:
        reason = "qemu-system-x86_64 is not installed"
    if reason is not None:
        pytest.skip(reason)


@contextmanager
def timed_output(command: Sequence[str | Path]) -> Iterator[Iterator[tuple[float, bytes]]]:
    """What a process writes, as it comes, with the host seconds since its start; unless it has ended it is killed at the end."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        try:
            yield ((time.perf_counter() - start, octets) for octets in iter(lambda: os.read(descriptor, 0x10000), b""))
        finally:
            process.kill()
