"""Builds the bundled guests from source. Needs gcc and binutils, nothing else: setup.py calls it before hvmx runs."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Target:
    """One environment: its compiler and linker flags besides the common ones."""

    folder: str
    bits: int
    compiler: tuple[str, ...]
    linker: tuple[str, ...]


TARGETS = {
    "hvm32": Target(
        "hvm", 32, ("-m32", "-march=i586", "-mregparm=3"), ("-m", "elf_i386", "-T", "hvm/hvm.ld")
    ),
    "hvm64": Target("hvm", 64, ("-m64",), ("-m", "elf_x86_64", "-T", "hvm/hvm.ld")),
    "pv64": Target("pv", 64, ("-m64", "-mcmodel=kernel"), ("-m", "elf_x86_64", "-T", "pv/pv.ld")),
}

# Freestanding, at fixed addresses, and without features that a kernel cannot support: the red zone (traps write below
# the stack pointer), vector registers, landing pads, a stack guard. The same source gives the same bytes in any folder.
COMPILER_FLAGS = (
    "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", f"-ffile-prefix-map={SOURCE}=guests",
    "-ffreestanding", "-nostdinc", "-fno-pic", "-fno-stack-protector", "-fcf-protection=none",
    "-fno-asynchronous-unwind-tables", "-fno-tree-loop-distribute-patterns",
    "-mgeneral-regs-only", "-mno-red-zone",
)  # fmt: skip
LINKER_FLAGS = ("-z", "max-page-size=4096", "-z", "noexecstack", "--build-id=none")


class BuildError(Exception):
    """The guests cannot be built here; the message names what is missing or failed."""


def build(output_dir: Path) -> None:
    """Writes ``hvmx-NAME.elf`` for each target into ``output_dir`` (made where it is missing).

    ``CC`` and ``LD`` name the compiler and the linker (default: gcc, ld). Raises ``BuildError``. On a host that
    is not x86 Linux, prints why and builds nothing.
    """
    if not can_build("bundled guests"):
        return
    compiler = tool("CC", "gcc")
    linker = tool("LD", "ld")
    headers = run_tool([*compiler, "-print-file-name=include"], SOURCE).strip()
    output_dir.mkdir(parents=True, exist_ok=True)
    for name, target in TARGETS.items():
        with tempfile.TemporaryDirectory() as objects:
            flags = [*COMPILER_FLAGS, "-isystem", headers, "-I", target.folder, *target.compiler]
            compiled = []
            for source in _sources(target):
                compiled.append(str(Path(objects) / f"{source.stem}.o"))
                run_tool([*compiler, *flags, "-c", str(source.relative_to(SOURCE)), "-o", compiled[-1]], SOURCE)
            linked = Path(objects) / "image"
            run_tool([*linker, *target.linker, *LINKER_FLAGS, "-o", str(linked), *compiled], SOURCE)
            shutil.copyfile(linked, output_dir / f"hvmx-{name}.elf")


def _sources(target: Target) -> list[Path]:
    """The common sources and the target's own; assembler files of the other width are left out."""
    found = [
        path for folder in ("common", target.folder) for path in sorted((SOURCE / folder).glob("*.[cS]"))
    ]
    other_width = str(96 - target.bits)
    return [path for path in found if not (path.suffix == ".S" and path.stem.endswith(other_width))]


def can_build(what: str) -> bool:
    """Whether this host builds code for x86; says so where it does not."""
    if sys.platform == "linux" and platform.machine() in ("x86_64", "i686", "i586", "i386"):
        return True
    print(f"{what} not built: {sys.platform} on {platform.machine()} is not an x86 Linux host")
    return False


def tool(variable: str, default: str) -> list[str]:
    """The command that environment variable ``variable`` names. ``BuildError`` where it is not there."""
    command = shlex.split(os.environ.get(variable, "")) or [default]
    if shutil.which(command[0]) is None:
        raise BuildError(
            f"the bundled guests and programs need {command[0]!r}, which is not installed (Debian: apt install gcc binutils)"
        )
    return command


def run_tool(command: list[str], folder: Path) -> str:
    """Standard output of ``command``; its warnings go to standard error as they are."""
    result = subprocess.run(command, check=False, cwd=folder, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        raise BuildError(f"building the bundled guests or programs failed: {shlex.join(command)}")
    return result.stdout


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE / "built")
