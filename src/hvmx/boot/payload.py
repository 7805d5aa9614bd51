"""The compressed kernel in a bzImage, decompressed on the host: never to more than the guest's memory."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable

import lz4.block

from .prepared import ImageError

#: The blocks of LZ4's legacy frame hold at most 8 MiB each (LZ4 frame format, "Legacy frame").
_LZ4_BLOCK = 8 << 20
#: What an xz decoder may take for itself: the kernel's build asks for dictionaries of 32 MiB, a hostile
#: header for 4 GiB.
_XZ_MEMORY = 33 << 20


def _gzip(octets: memoryview, limit: int) -> tuple[bytes, bool]:
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    return stream.decompress(octets, limit), stream.eof


def _bzip2(octets: memoryview, limit: int) -> tuple[bytes, bool]:
    stream = bz2.BZ2Decompressor()
    return stream.decompress(octets, limit), stream.eof


def _lzma(octets: memoryview, limit: int) -> tuple[bytes, bool]:
    stream = lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=_XZ_MEMORY)
    return stream.decompress(octets, limit), stream.eof


def _lz4_legacy(octets: memoryview, limit: int) -> tuple[bytes, bool]:
    output, position = bytearray(), 4
    # The kernel's build appends the uncompressed size: the frame ends 4 bytes before the payload.
    while position + 8 <= len(octets) and len(output) < limit:
        start = position + 4
        position = start + int.from_bytes(octets[position:start], "little")
        if position > len(octets):
            return bytes(output), False
        output += lz4.block.decompress(octets[start:position], uncompressed_size=_LZ4_BLOCK)
    return bytes(output), True


#: First bytes (boot.rst, "payload_offset") -> name, function.
_FORMATS: dict[bytes, tuple[str, Callable[[memoryview, int], tuple[bytes, bool]]]] = {
    b"\x1f\x8b": ("gzip", _gzip),
    b"BZ": ("bzip2", _bzip2),
    b"\x5d\x00": ("LZMA", _lzma),
    b"\xfd7": ("xz", _lzma),
    b"\x02\x21": ("LZ4", _lz4_legacy),
}


def compression(payload: memoryview) -> str | None:
    """The name of ``payload``'s compression, if it is one that can be undone here."""
    found = _FORMATS.get(bytes(payload[:2]))
    return found[0] if found else None


def decompress(payload: memoryview, limit: int, name: str) -> bytes:
    """The kernel in ``payload``, whose format ``compression`` knows and whose last 4 bytes tell its size.

    Raises ``ImageError`` where it is damaged, or larger than ``limit`` bytes.
    """
    title, function = _FORMATS[bytes(payload[:2])]
    size = int.from_bytes(payload[-4:], "little")
    if size > limit:
        raise ImageError(f"{name}: the {title} payload holds {size:#x} bytes, the guest's memory {limit:#x}")
    try:
        octets, whole = function(payload, size + 1)
    except (zlib.error, lzma.LZMAError, lz4.block.LZ4BlockError, OSError, ValueError) as problem:
        raise ImageError(
            f"{name}: the {title} payload of {len(payload):#x} bytes is damaged: {problem}"
        ) from problem
    if not whole or len(octets) != size:
        raise ImageError(
            f"{name}: the {title} payload gives {len(octets):#x} bytes{'' if whole else ' without an end'}, "
            f"its trailer says {size:#x}"
        )
    return octets
