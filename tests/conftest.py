"""What all tests have: signals that do as they do at a terminal, wherever the tests were started."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


def _ignore(number: int, frame: object) -> None:
    """As SIG_IGN, but for children."""


@pytest.fixture(scope="session", autouse=True)
def _children_with_default_signals() -> Iterator[None]:
    """Children inherit what is ignored: SIGINT in the background, SIGHUP under nohup. They start anew with what is caught."""
    ignored = [number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, _ignore)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt in this process."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
