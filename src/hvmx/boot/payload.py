"""Decompresses the kernel in a bzImage on the host, to no more bytes than the guest's memory has."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator

import lz4.block

from .prepared import ImageError
from .scratch import PIECE, Scratch

#: The blocks of LZ4's legacy frame hold at most 8 MiB each (LZ4 frame format, "Legacy frame").
_LZ4_BLOCK = 8 << 20
#: The memory limit of the xz decoder: the kernel's build uses dictionaries of 32 MiB, a hostile header may ask for
#: 4 GiB.
_XZ_MEMORY = 33 << 20


def _gzip(octets: memoryview | bytes) -> Iterator[bytes]:
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    while piece := stream.decompress(octets, PIECE):
        octets = stream.unconsumed_tail
        yield piece
    if not stream.eof:
        raise EOFError


def _pieces(stream: bz2.BZ2Decompressor | lzma.LZMADecompressor, octets: memoryview | bytes) -> Iterator[bytes]:
    while not stream.eof and (piece := stream.decompress(octets, PIECE)):
        octets = b""
        yield piece
    if not stream.eof:
        raise EOFError


def _bzip2(octets: memoryview) -> Iterator[bytes]:
    return _pieces(bz2.BZ2Decompressor(), octets)


def _lzma(octets: memoryview) -> Iterator[bytes]:
    return _pieces(lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=_XZ_MEMORY), octets)


def _lz4_legacy(octets: memoryview) -> Iterator[bytes]:
    position = 4
    # The kernel's build appends the uncompressed size: the frame ends 4 bytes before the payload.
    while position + 8 <= len(octets):
        start = position + 4
        position = start + int.from_bytes(octets[position:start], "little")
        if position > len(octets):
            raise EOFError
        yield lz4.block.decompress(octets[start:position], uncompressed_size=_LZ4_BLOCK)


#: First bytes (boot.rst, "payload_offset") -> name, and a function that yields the content; EOFError if truncated.
_FORMATS: dict[bytes, tuple[str, Callable[[memoryview], Iterator[bytes]]]] = {
    b"\x1f\x8b": ("gzip", _gzip),
    b"BZ": ("bzip2", _bzip2),
    b"\x5d\x00": ("LZMA", _lzma),
    b"\xfd7": ("xz", _lzma),
    b"\x02\x21": ("LZ4", _lz4_legacy),
}


def compression(payload: memoryview) -> str | None:
    """The name of ``payload``'s compression, if it can be decompressed here."""
    found = _FORMATS.get(bytes(payload[:2]))
    return found[0] if found else None


def decompress(payload: memoryview, limit: int, name: str) -> memoryview:
    """The kernel in ``payload``, which is in a format of ``compression``, with its size in the last 4 bytes.

    Raises ``ImageError`` where it is damaged, or larger than ``limit`` bytes.
    """
    title, pieces = _FORMATS[bytes(payload[:2])]
    size = int.from_bytes(payload[-4:], "little")
    if size > limit:
        raise ImageError(f"{name}: the {title} payload holds {size:#x} bytes, the guest's memory {limit:#x}")
    scratch, given, ending = Scratch(size), 0, ""
    try:
        for piece in pieces(payload):
            given += len(piece)
            if given > size:
                break
            scratch[given - len(piece) : given] = piece
    except EOFError:
        ending = " without an end"
    except (zlib.error, lzma.LZMAError, lz4.block.LZ4BlockError, OSError, ValueError) as problem:
        raise ImageError(
            f"{name}: the {title} payload of {len(payload):#x} bytes is damaged: {problem}"
        ) from problem
    if ending or given != size:
        amount = "more" if given > size else f"{given:#x}"
        raise ImageError(f"{name}: the {title} payload gives {amount} bytes{ending}, its trailer says {size:#x}")
    return memoryview(scratch)[:size]
