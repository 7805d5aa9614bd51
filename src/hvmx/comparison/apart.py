"""A run in a process of its own: whatever ends that process costs this run only.

The process is a Python of its own, not a fork of this one, which may have threads, nor one of ``multiprocessing``, which would
import the caller's main module again.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from contextlib import suppress

from .outcome import Outcome
from .runs import Run, WorkerFailed, carry_out

_MAIN = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from hvmx.comparison.apart import answer
answer()
"""


class Processes:
    """Those that carry out runs, until `close`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def carry_out(self, run: Run) -> Outcome:
        """As the function does; ``WorkerFailed`` where the process ends without an answer."""
        process = self._start()
        try:
            answer = _asked(process, run)
        finally:
            with self._lock:
                self._running.discard(process)
        if process.returncode != 0:
            raise WorkerFailed(_end(process.returncode))
        result, trace = pickle.loads(answer)
        if isinstance(result, Outcome):
            return result
        raise result from RuntimeError(f"in the process that ran the guest:\n{trace}")

    def _start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise WorkerFailed("it was not begun")
            process = subprocess.Popen(
                [sys.executable, "-c", _MAIN],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for who started it
            )
            self._running.add(process)
            return process

    def close(self) -> None:
        """End all of them, and let no other begin."""
        with self._lock:
            self._closed = True
            for process in self._running:
                process.kill()


def _asked(process: subprocess.Popen[bytes], run: Run) -> bytes:
    """What it writes until its end."""
    assert process.stdin is not None and process.stdout is not None
    with process:  # its input stays open meanwhile: see answer()
        try:
            process.stdin.write(pickle.dumps(sys.path) + pickle.dumps(run))
            process.stdin.flush()
        except BrokenPipeError:
            with suppress(BrokenPipeError):  # of what is still to be written
                process.stdin.close()
        return process.stdout.read()


def _end(status: int) -> str:
    if status < 0:
        return f"the process that ran it was ended by {signal.Signals(-status).name}"
    return f"the process that ran it ended with status {status}"


def answer() -> None:
    """In the process: what comes of the run that is asked for."""
    run = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_who_asked, daemon=True).start()
    result: Outcome | Exception
    try:
        result, trace = carry_out(run), ""
    except Exception as problem:  # noqa: BLE001 - it is raised where the run was asked for
        result, trace = problem, traceback.format_exc()
    sys.stdout.buffer.write(pickle.dumps((result, trace)))


def _end_with_who_asked() -> None:
    """Nothing more is written to this process; its input ends with the other one, however that ends."""
    os.read(0, 1)
    os._exit(1)
