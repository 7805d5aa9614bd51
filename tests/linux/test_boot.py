"""Debian's kernels boot from their packages to user space, by every way in, and every boot is the same."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from guests import guest
from linux.initramfs import MARKER
from linux.kernels import COMMAND_LINE, assert_same, initramfs, run_command, vmlinux

#: Name -> kernel, whether it is the ELF file inside of the package's bzImage that boots, options.
BOOTS: dict[str, tuple[str, bool, tuple[str, ...]]] = {
    "686": ("linux-686", False, ()),
    "686-shadow-paging": ("linux-686", False, ("--paging", "shadow")),
    "cloud-amd64-64-bit-entry": ("linux-cloud-amd64", False, ()),
    "cloud-amd64-pvh-entry": ("linux-cloud-amd64", True, ()),
    "cloud-amd64-own-decompressor": ("linux-cloud-amd64", False, ("--no-decompress",)),
    "cloud-amd64-shadow-paging": ("linux-cloud-amd64", False, ("--paging", "shadow")),
    "amd64-64-bit-entry": ("linux-amd64", False, ()),
    "amd64-pvh-entry": ("linux-amd64", True, ()),
}


@pytest.mark.parametrize("name", BOOTS)
def test_linux_reaches_init_and_stops_the_same_way_twice(tmp_path: Path, name: str) -> None:
    kernel, elf, options = BOOTS[name]
    image = vmlinux(kernel, tmp_path) if elf else guest(kernel)
    initrd = initramfs(kernel, tmp_path)
    statistics = [tmp_path / f"{number}.json" for number in range(2)]
    consoles = []
    for path in statistics:
        command = run_command(image, initrd, COMMAND_LINE, "--stats", path, "--hash", *options)
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert MARKER in done.stdout.splitlines(), f"no marker; the console ends {done.stdout[-2000:]!r}"
        assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr[-2000:]}"
        consoles.append(done.stdout)
    assert consoles[0] == consoles[1]
    assert "isolation: enabled" not in consoles[0], "nothing leaks from a processor that does not speculate"
    run = assert_same(*statistics)
    assert run["stop"] == "halted", "with no ACPI to power off by, the kernel halts"
    assert run["exits"]["IO_INSTRUCTION"]["count"] > 10_000, "the console alone makes more exits than that"
