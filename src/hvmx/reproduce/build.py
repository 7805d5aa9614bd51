"""Builds the programs for Linux guests. Needs gcc and binutils, nothing else: setup.py calls it before hvmx runs."""

from __future__ import annotations

from pathlib import Path

from hvmx.guests.build import can_build, run_tool, tool

SOURCES = Path(__file__).parent / "linux"

# Static and without a library, so that a program's start is the kernel's work alone. Without vector registers, for it
# runs on every level that a 64-bit kernel does.
FLAGS = (
    "-std=gnu11", "-O2", "-Wall", "-Wextra", "-m64", "-march=x86-64", "-ffreestanding", "-nostdlib", "-static", "-fno-pic",
    "-no-pie", "-fno-stack-protector", "-fcf-protection=none", "-fno-asynchronous-unwind-tables",
    "-fno-tree-loop-distribute-patterns", "-mgeneral-regs-only", "-Wl,--build-id=none", "-Wl,-z,noexecstack",
)  # fmt: skip


def build(output_dir: Path) -> None:
    """Writes the program ``signs`` into ``output_dir`` (made where it is missing).

    ``CC`` names the compiler (default: gcc). Raises ``BuildError``. On a host that is not x86 Linux builds nothing.
    """
    if not can_build("programs of hvmx reproduce"):
        return
    output_dir.mkdir(parents=True, exist_ok=True)
    command = [*tool("CC", "gcc"), *FLAGS, "signs.c", "start.S", "-o", str((output_dir / "signs").resolve())]
    run_tool(command, SOURCES)
