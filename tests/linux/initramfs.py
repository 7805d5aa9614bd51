"""Initial RAM disks for tests: an /init that prints MARKER and powers off, or busybox with a shell on the console."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hvmx.reproduce.initramfs import Member, archive, character_device, directory, executable

MARKER = "hvmx: init reached"
PROMPT = "hvmx$ "
CONTINUATION = "more$ "

_CONSOLE = character_device("dev/console", 5, 1)

_SHELL_INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
stty rows 50 cols 200
echo '{MARKER}'
cd /tmp
"""
#: A process group of its own with the serial port as its terminal, so that Ctrl-C reaches what the shell runs.
_INTERACTIVE = f"""HOME=/tmp PATH=/bin TERM=dumb PS1='{PROMPT}' PS2='{CONTINUATION}' \\
exec setsid -c ash <>/dev/ttyS0 >&0 2>&0
"""


def _write(path: Path, *members: Member) -> Path:
    path.write_bytes(archive(members))
    return path


def build_initramfs(folder: Path, *, bits: int) -> Path:
    """Assemble /init for a kernel of 32 or 64 bits and pack it; returns the archive."""
    source = Path(__file__).with_name(f"init{bits}.S")
    init = folder / "init"
    # Stripped, since symbols name the compiler's temporary files: the archive is the same each time.
    subprocess.run(
        ["gcc", f"-m{bits}", "-static", "-nostdlib", "-s", "-Wl,--build-id=none", "-o", init, source], check=True
    )
    return build_program_initramfs(folder / f"tiny{bits}.cpio", init)


def build_program_initramfs(path: Path, program: Path) -> Path:
    """Pack a static program as /init; returns the archive."""
    return _write(path, directory("dev"), _CONSOLE, executable("init", program.read_bytes()))


def build_shell_initramfs(folder: Path, busybox: Path, script: str = _INTERACTIVE) -> Path:
    """Pack busybox and an /init that runs a script, or is its shell; returns the archive."""
    devices = {"null": (1, 3), "zero": (1, 5), "urandom": (1, 9), "tty": (5, 0), "ttyS0": (4, 64)}
    return _write(
        folder / "shell.cpio",
        *map(directory, ("bin", "dev", "proc", "tmp")),
        _CONSOLE,
        *(character_device(f"dev/{name}", *numbers) for name, numbers in devices.items()),
        executable("bin/busybox", busybox.read_bytes()),
        executable("init", (_SHELL_INIT + script).encode()),
    )
