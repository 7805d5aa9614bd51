"""Builds the suite's programs from source. Needs gcc and binutils, nothing else: setup.py calls it before hvmx runs."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hvmx.guests.build import can_build, run_tool, tool
from hvmx.validation.suite import CODE_ADDRESS, PROGRAMS, SOURCES, Program

# As a distribution compiles programs, but for what belongs to a system: no library, no start-up, no landing pads, no
# guard of the stack; and no call of memset() or memcpy() where the program has a loop.
FLAGS = (
    "-std=gnu11", "-O2", "-Wall", "-Wextra", "-ffreestanding", "-fno-pic", "-no-pie", "-fno-stack-protector",
    "-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-fno-tree-loop-distribute-patterns", "-ffunction-sections",
    "-nostdlib", "-static", "-Wl,-T,program.ld", "-Wl,--oformat=binary", "-Wl,--build-id=none", "-Wl,-z,noexecstack",
    f"-Wl,--defsym=CODE_ADDRESS={CODE_ADDRESS:#x}",
)  # fmt: skip
FLAGS_OF_WIDTH = {64: ("-m64", "-march=x86-64"), 32: ("-m32", "-march=i686")}


def build(output_dir: Path) -> None:
    """Writes each program's image into ``output_dir`` (made where it is missing), unless it is newer than its source.

    ``CC`` names the compiler (default: gcc). Raises ``BuildError``. On a host that is not x86 Linux builds nothing.
    """
    if not can_build("programs of hvmx validate"):
        return
    compiler = tool("CC", "gcc")
    output_dir.mkdir(parents=True, exist_ok=True)
    common = [Path(__file__), Path(__file__).with_name("suite.py"), *SOURCES.glob("program.*")]
    newest = max(path.stat().st_mtime_ns for path in common)

    def build_one(program: Program) -> None:
        source, output = SOURCES / program.source, output_dir / program.image_name
        if output.exists() and output.stat().st_mtime_ns > max(newest, source.stat().st_mtime_ns):
            return
        run_tool([*compiler, *FLAGS, *FLAGS_OF_WIDTH[program.bits], source.name, "-o", str(output.resolve())], SOURCES)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(build_one, PROGRAMS))
