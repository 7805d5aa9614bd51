"""The sources keep to the rules that pyproject.toml sets, ruff's and mypy's; README.md names tests that there are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*command: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", *command], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, f"{' '.join(command)}:\n{result.stdout}{result.stderr}"


def test_ruff_finds_nothing() -> None:
    run("ruff", "check", "--no-cache", ".")


def test_mypy_finds_nothing() -> None:
    run("mypy")


def test_the_list_of_promises_names_tests_that_there_are() -> None:
    tests = Path(__file__).parent
    named = set(re.findall(r"`([a-z0-9_/]+\.py)`", (tests / "README.md").read_text()))
    assert len(named) > 30
    assert not [name for name in named if not (tests / name).is_file()]
