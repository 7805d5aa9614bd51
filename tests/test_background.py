"""A test run that was started in the background, where signals are ignored, tests the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read signal masks from")
def test_children_of_tests_ignore_no_signal() -> None:
    status = subprocess.run(["cat", "/proc/self/status"], check=True, capture_output=True, text=True).stdout
    (ignored,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:"))
    assert int(ignored, 16) == 0


def test_tests_of_signals_pass_in_the_background() -> None:
    chosen = [
        "tests/test_background.py::test_children_of_tests_ignore_no_signal",
        "tests/test_cli.py::test_ctrl_c_stops_any_guest[idle]",
        "tests/test_cli.py::test_a_signal_leaves_the_terminal_as_it_was_and_the_reports_written[spin-1-14-terminated]",
        "tests/test_embedding.py::test_ctrl_c_stops_any_guest_and_it_can_go_on[port]",
    ]
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen]
    background = ["sh", "-c", 'trap "" HUP INT QUIT TERM; exec "$@"', "sh"]
    result = subprocess.run(
        [*background, *pytest_command],
        check=False,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout
    assert "4 passed" in result.stdout
