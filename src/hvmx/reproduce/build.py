"""Builds what runs in the guests: a program for Linux, and operations for the bare machine. Needs gcc and binutils, nothing
else: setup.py calls it before hvmx runs."""

from __future__ import annotations

from pathlib import Path

from hvmx.guests.build import can_build, run_tool, tool

FOLDER = Path(__file__).parent
SOURCES = FOLDER / "linux"

_STATIC = ("-m64", "-ffreestanding", "-nostdlib", "-static", "-fno-pic", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,noexecstack")

# Static and without a library, so that a program's start is the kernel's work alone. Without vector registers, for it
# runs on every level that a 64-bit kernel does.
FLAGS = (
    "-std=gnu11", "-O2", "-Wall", "-Wextra", "-march=x86-64", *_STATIC, "-fno-stack-protector", "-fcf-protection=none",
    "-fno-asynchronous-unwind-tables", "-fno-tree-loop-distribute-patterns", "-mgeneral-regs-only",
)  # fmt: skip

BARE_ADDRESS = 0x100000
"""Where the image of operations is loaded."""

_BARE_FLAGS = (*_STATIC, f"-Wl,-Ttext={BARE_ADDRESS:#x},--oformat=binary,--entry={BARE_ADDRESS:#x}")


def build(output_dir: Path) -> None:
    """Writes ``signs`` and ``operations`` into ``output_dir`` (made where it is missing).

    ``CC`` names the compiler (default: gcc). Raises ``BuildError``. On a host that is not x86 Linux builds nothing.
    """
    if not can_build("programs of hvmx reproduce"):
        return
    output_dir.mkdir(parents=True, exist_ok=True)
    compiler, built = tool("CC", "gcc"), output_dir.resolve()
    run_tool([*compiler, *FLAGS, "signs.c", "start.S", "-o", str(built / "signs")], SOURCES)
    run_tool([*compiler, *_BARE_FLAGS, "operations.S", "-o", str(built / "operations")], FOLDER / "bare")
