"""Reads what a loader placed the way the guest would: by physical address."""

from __future__ import annotations

import struct

from hvmx.boot import Prepared, XenImage, prepare

MEMORY = 64 << 20


def prepared(image: object, **options: object) -> Prepared:
    """``prepare`` for hardware-assisted guests, with 64 MiB of memory unless told otherwise."""
    result = prepare(image, **({"memory_bytes": MEMORY} | options))  # type: ignore[arg-type]
    assert isinstance(result, Prepared), f"{result.kind} is no hardware-assisted guest"
    return result


def prepared_pv(image: object, **options: object) -> XenImage:
    """``prepare`` for paravirtual guests."""
    result = prepare(image, pv=True, **({"memory_bytes": MEMORY} | options))  # type: ignore[arg-type]
    assert isinstance(result, XenImage), f"{result.kind} is no paravirtual guest"
    return result


def read(machine: Prepared, physical: int, size: int) -> bytes:
    """``size`` bytes at ``physical``; memory in which nothing was placed is zero."""
    octets = bytearray(size)
    for base, data, _zero_fill in machine.memory:
        start, end = max(base, physical), min(base + len(data), physical + size)
        if start < end:
            octets[start - physical : end - physical] = data[start - base : end - base]
    return bytes(octets)


def number(machine: Prepared, physical: int, size: int) -> int:
    """A little-endian number of ``size`` bytes at ``physical``."""
    return int.from_bytes(read(machine, physical, size), "little")


def string(machine: Prepared, physical: int) -> str:
    """The zero-terminated string at ``physical``, which must have its terminator within 64 KiB."""
    return read(machine, physical, 0x10000).split(b"\0", 1)[0].decode()


def structures(machine: Prepared, physical: int, count: int, layout: str) -> list[tuple[int, ...]]:
    """``count`` structures of ``struct`` format ``layout`` from ``physical`` on."""
    return list(struct.iter_unpack(layout, read(machine, physical, count * struct.calcsize(layout))))


def problem_id(value: object) -> str:
    """The id of a parametrised test: its expected message stands for the image."""
    return value if isinstance(value, str) else ""
