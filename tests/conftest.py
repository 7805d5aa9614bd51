"""Fixtures of all tests: signals are handled as at a terminal, also where the tests run in the background; comparisons."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hvmx.comparison.outcome import Comparison


def _ignore(number: int, frame: object) -> None:
    """Ignores a signal in this process, as SIG_IGN does, but not in its children."""


@pytest.fixture(scope="session", autouse=True)
def _children_with_default_signals() -> Iterator[None]:
    """Children inherit that a signal is ignored (SIGINT in the background, SIGHUP under nohup), but not a handler."""
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


@pytest.fixture(scope="session")
def comparison_of() -> Callable[[str, str], Comparison]:
    """What comes of the bundled guest in all ways, with all operations, by profile and memory; each is run once."""
    from hvmx.comparison.side_by_side import compare

    return cache(lambda profile, memory: compare(profiles=[profile], memory=memory))


@pytest.fixture(scope="session")
def comparison(comparison_of: Callable[[str, str], Comparison]) -> Comparison:
    """As ``hvmx compare`` has it by itself."""
    return comparison_of("skylake", "128M")
