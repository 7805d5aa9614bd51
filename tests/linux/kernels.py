"""Debian's kernels as tests boot them, each with the initramfs for its width, under hvmx and under QEMU."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from boot.guest_memory import prepared, prepared_pv
from boot.qemu import qemu_command
from guests import guest
from linux.initramfs import build_initramfs, build_shell_initramfs

#: Kernel -> its width, and the busybox of that width.
KERNELS = {"linux-686": (32, "busybox-i386"), "linux-cloud-amd64": (64, "busybox"), "linux-amd64": (64, "busybox")}

#: No test of what the board has not: ACPI, PCI, APICs; and none of the kernel's own of its ciphers.
COMMAND_LINE = "console=ttyS0 panic=-1 nokaslr cryptomgr.notests acpi=off pci=off noapic nolapic"
#: Where a kernel's messages must not come between a command's output.
QUIET_COMMAND_LINE = f"{COMMAND_LINE} quiet"
MEMORY_BYTES = 128 << 20
LIMIT_SECONDS = 120


def initramfs(kernel: str, directory: Path) -> Path:
    """The tiny initramfs, built in `directory`."""
    return build_initramfs(directory, bits=KERNELS[kernel][0])


def shell_initramfs(kernel: str, directory: Path) -> Path:
    """The initramfs with a shell, built in `directory`."""
    return build_shell_initramfs(directory, guest(KERNELS[kernel][1]))


def vmlinux(kernel: str, directory: Path) -> Path:
    """The ELF file that is inside of a bzImage, in `directory`."""
    path = directory / f"{kernel}.elf"
    path.write_bytes(prepared_pv(guest(kernel), memory_bytes=MEMORY_BYTES).elf)
    return path


def run_command(image: Path, initrd: Path, command_line: str, *options: str | Path) -> list[str]:
    """`hvmx run` of a kernel; itself it says nothing."""
    limits = ("--memory", str(MEMORY_BYTES), "--timeout", str(LIMIT_SECONDS))
    boot = ("--append", command_line, "--initrd", initrd, "--quiet")
    return [str(word) for word in (sys.executable, "-m", "hvmx", "run", *limits, *boot, *options, image)]


def qemu_run_command(kernel: str, initrd: Path, command_line: str, directory: Path) -> list[str | Path]:
    """QEMU's translator with the same prepared machine: it enters the kernel where hvmx does. Without an APIC the
    interrupt controllers of the board reach the processor with no firmware's help."""
    machine = prepared(
        guest(kernel), memory_bytes=MEMORY_BYTES, command_line=command_line, initrd=initrd.read_bytes()
    )
    command = qemu_command(machine, directory, memory_bytes=MEMORY_BYTES)
    return [*command, "-machine", "pc,accel=tcg", "-cpu", "qemu64,-apic"]


def assert_same(first: Path, second: Path) -> dict[str, Any]:
    """Two runs' statistics tell of the same cycles, counts, exits and final state; returns the first."""
    one, other = (json.loads(path.read_text()) for path in (first, second))
    for key in ("guest_cycles", "instructions", "tlb_misses", "walk_references", "hash", "stop"):
        assert one[key] == other[key], f"{key}: {one[key]} in the first run, {other[key]} in the second"
    exits = [{reason: row["count"] for reason, row in run["exits"].items()} for run in (one, other)]
    assert exits[0] == exits[1]
    assert isinstance(one, dict)
    return one
