"""What the benchmarks have in common: lines for the end of the run."""

from __future__ import annotations

import pytest

REPORT = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REPORT] = []


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> list[str]:
    """Lines that are printed when the run ends, in the order in which they were added."""
    return pytestconfig.stash[REPORT]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = terminalreporter.config.stash[REPORT]
    if lines:
        terminalreporter.section("hvmx beside its peers, host time")
        for line in lines:
            terminalreporter.write_line(line)
