"""Initial RAM disks for tests: an /init that prints MARKER and powers off, or busybox with a shell on the console."""

from __future__ import annotations

import subprocess
from pathlib import Path

MARKER = "hvmx: init reached"
PROMPT = "hvmx$ "
CONTINUATION = "more$ "

_DIRECTORY, _CHARACTER_DEVICE, _FILE = 0o040755, 0o020600, 0o100755

_CONSOLE = ("dev/console", _CHARACTER_DEVICE, b"", (5, 1))

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


def _entry(number: int, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """One member of a cpio archive in the "newc" format (Documentation/driver-api/early-userspace/buffer-format)."""
    path = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return head.ljust(-(-len(head) // 4) * 4, b"\0") + data.ljust(-(-len(data) // 4) * 4, b"\0")


def _write(archive: Path, *members: tuple[str, int, bytes, tuple[int, int]]) -> Path:
    entries = [*members, ("TRAILER!!!", 0, b"", (0, 0))]
    archive.write_bytes(b"".join(_entry(number + 1, *member) for number, member in enumerate(entries)))
    return archive


def build_initramfs(directory: Path, *, bits: int) -> Path:
    """Assemble /init for a kernel of 32 or 64 bits and pack it; returns the archive."""
    source = Path(__file__).with_name(f"init{bits}.S")
    init = directory / "init"
    subprocess.run(
        ["gcc", f"-m{bits}", "-static", "-nostdlib", "-Wl,--build-id=none", "-o", init, source], check=True
    )
    return build_program_initramfs(directory / f"tiny{bits}.cpio", init)


def build_program_initramfs(archive: Path, program: Path) -> Path:
    """Pack a static program as /init; returns the archive."""
    return _write(
        archive,
        ("dev", _DIRECTORY, b"", (0, 0)),
        _CONSOLE,
        ("init", _FILE, program.read_bytes(), (0, 0)),
    )


def build_shell_initramfs(directory: Path, busybox: Path, script: str = _INTERACTIVE) -> Path:
    """Pack busybox and an /init that runs a script, or is its shell; returns the archive."""
    devices = {"null": (1, 3), "zero": (1, 5), "urandom": (1, 9), "tty": (5, 0), "ttyS0": (4, 64)}
    return _write(
        directory / "shell.cpio",
        *((name, _DIRECTORY, b"", (0, 0)) for name in ("bin", "dev", "proc", "tmp")),
        _CONSOLE,
        *((f"dev/{name}", _CHARACTER_DEVICE, b"", numbers) for name, numbers in devices.items()),
        ("bin/busybox", _FILE, busybox.read_bytes(), (0, 0)),
        ("init", _FILE, (_SHELL_INIT + script).encode(), (0, 0)),
    )
