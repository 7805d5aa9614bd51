"""Debian's 32-bit kernel boots from its package to user space, and every boot is the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from guests import guest
from linux.initramfs import MARKER, build_initramfs

COMMAND_LINE = "console=ttyS0 panic=-1 nokaslr cryptomgr.notests acpi=off pci=off noapic nolapic"
LIMIT_SECONDS = 300


def boot(initramfs: Path, name: str, *options: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """`hvmx run` of the kernel with the tiny initramfs: the finished process, and its statistics."""
    statistics = initramfs.with_name(f"{name}.json")
    command = [
        *(sys.executable, "-m", "hvmx", "run", "--append", COMMAND_LINE, "--timeout", str(LIMIT_SECONDS)),
        *("--initrd", str(initramfs), "--stats", str(statistics), "--hash", "--quiet"),
        *(*options, str(guest("linux-686"))),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done, json.loads(statistics.read_text())


@pytest.mark.parametrize("paging", ["ept", "shadow"])
def test_linux_686_reaches_init_and_powers_off_the_same_way_twice(tmp_path: Path, paging: str) -> None:
    initramfs = build_initramfs(tmp_path)
    runs = [boot(initramfs, f"run{number}", "--paging", paging) for number in range(2)]
    for done, _ in runs:
        assert MARKER in done.stdout.splitlines(), f"no marker; the console ends {done.stdout[-2000:]!r}"
        assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr[-2000:]}"
    (first, first_statistics), (second, second_statistics) = runs
    assert first.stdout == second.stdout
    for key in ("guest_cycles", "instructions", "tlb_misses", "walk_references", "hash"):
        assert first_statistics[key] == second_statistics[key], key

    def counts(statistics: dict[str, Any]) -> dict[str, int]:
        return {reason: row["count"] for reason, row in statistics["exits"].items()}

    assert counts(first_statistics) == counts(second_statistics)
    assert counts(first_statistics)["IO_INSTRUCTION"] > 10_000, "the console alone makes more exits than that"
