"""Guests of a few octets, which halt, never end or crash; as HVM only."""

from __future__ import annotations

from pathlib import Path

from boot.images import HALT, Load, MiB, elf_image, multiboot_header

CODE = {"halting": HALT, "endless": b"\xeb\xfe", "crashing": b"\x0f\x0b"}  # jmp to itself; ud2 without an IDT


def image(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(
        elf_image(bits=32, loads=[Load(MiB, CODE[name], memsz=0x1000)], entry=MiB, first=multiboot_header(3))
    )
    return path
