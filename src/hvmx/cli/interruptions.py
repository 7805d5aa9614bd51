"""What ends a command from outside: signals, and its own limit of host time."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Terminated(BaseException):
    """SIGTERM or SIGHUP: the run ends as by Ctrl-C, with its reports and the terminal as it was."""


class TimedOut(BaseException):
    """--timeout was reached before the guest ran: while a file was waited for, or loaded."""


@contextmanager
def termination() -> Iterator[None]:
    """Signals that end a program raise ``Terminated``, unless they are ignored or somebody else's already."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: object) -> None:
        raise Terminated

    taken = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, terminate)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def time_limit(until: float | None) -> Iterator[None]:
    """What takes longer is ended by ``TimedOut``, whatever it waits for; only in the main thread, where signals are."""
    if until is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def time_out(number: int, frame: object) -> None:
        raise TimedOut

    before = signal.signal(signal.SIGALRM, time_out)
    try:
        # Again and again, as one may come just before the call that waits.
        signal.setitimer(signal.ITIMER_REAL, max(until - time.monotonic(), 1e-6), 0.1)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
