"""A tiny initramfs: an /init that prints MARKER and powers off, and /dev/console for it to print to."""

from __future__ import annotations

import subprocess
from pathlib import Path

MARKER = "hvmx: init reached"

_DIRECTORY, _CHARACTER_DEVICE, _FILE = 0o040755, 0o020600, 0o100755


def _entry(number: int, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """One member of a cpio archive in the "newc" format (Documentation/driver-api/early-userspace/buffer-format)."""
    path = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return head.ljust(-(-len(head) // 4) * 4, b"\0") + data.ljust(-(-len(data) // 4) * 4, b"\0")


def build_initramfs(directory: Path) -> Path:
    """Assemble /init and pack it; returns the archive."""
    source = Path(__file__).with_name("init32.S")
    init, archive = directory / "init", directory / "tiny.cpio"
    subprocess.run(
        ["gcc", "-m32", "-static", "-nostdlib", "-Wl,--build-id=none", "-o", init, source], check=True
    )
    members = [
        ("dev", _DIRECTORY, b"", (0, 0)),
        ("dev/console", _CHARACTER_DEVICE, b"", (5, 1)),
        ("init", _FILE, init.read_bytes(), (0, 0)),
        ("TRAILER!!!", 0, b"", (0, 0)),
    ]
    archive.write_bytes(b"".join(_entry(number + 1, *member) for number, member in enumerate(members)))
    return archive
