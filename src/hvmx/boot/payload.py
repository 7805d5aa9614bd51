"""The compressed kernel in a bzImage, decompressed on the host: never to more than the guest's memory."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Iterator

import lz4.block

from .prepared import ImageError
from .scratch import PIECE, Scratch

#: The blocks of LZ4's legacy frame hold at most 8 MiB each (LZ4 frame format, "Legacy frame").
_LZ4_BLOCK = 8 << 20
#: What an xz decoder may take for itself: the kernel's build asks for dictionaries of 32 MiB, a hostile
#: header for 4 GiB.
_XZ_MEMORY = 33 << 20


class _Unpacked:
    """What a decompressor gives, by pieces; ``whole`` once it came to its end."""

    whole = False

    def __init__(self, octets: memoryview) -> None:
        self.octets: memoryview | bytes = octets

    def pieces(self) -> Iterator[bytes]:
        raise NotImplementedError


class _Gzip(_Unpacked):
    def pieces(self) -> Iterator[bytes]:
        stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        while piece := stream.decompress(self.octets, PIECE):
            self.octets = stream.unconsumed_tail
            yield piece
        self.whole = stream.eof


class _Bzip2(_Unpacked):
    def stream(self) -> bz2.BZ2Decompressor | lzma.LZMADecompressor:
        return bz2.BZ2Decompressor()

    def pieces(self) -> Iterator[bytes]:
        stream = self.stream()
        while not stream.eof and (piece := stream.decompress(self.octets, PIECE)):
            self.octets = b""
            yield piece
        self.whole = stream.eof


class _Lzma(_Bzip2):
    def stream(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=_XZ_MEMORY)


class _Lz4Legacy(_Unpacked):
    def pieces(self) -> Iterator[bytes]:
        position = 4
        # The kernel's build appends the uncompressed size: the frame ends 4 bytes before the payload.
        while position + 8 <= len(self.octets):
            start = position + 4
            position = start + int.from_bytes(self.octets[position:start], "little")
            if position > len(self.octets):
                return
            yield lz4.block.decompress(self.octets[start:position], uncompressed_size=_LZ4_BLOCK)
        self.whole = True


#: First bytes (boot.rst, "payload_offset") -> name, decompressor.
_FORMATS: dict[bytes, tuple[str, type[_Unpacked]]] = {
    b"\x1f\x8b": ("gzip", _Gzip),
    b"BZ": ("bzip2", _Bzip2),
    b"\x5d\x00": ("LZMA", _Lzma),
    b"\xfd7": ("xz", _Lzma),
    b"\x02\x21": ("LZ4", _Lz4Legacy),
}


def compression(payload: memoryview) -> str | None:
    """The name of ``payload``'s compression, if it is one that can be undone here."""
    found = _FORMATS.get(bytes(payload[:2]))
    return found[0] if found else None


def decompress(payload: memoryview, limit: int, name: str) -> memoryview:
    """The kernel in ``payload``, whose format ``compression`` knows and whose last 4 bytes tell its size.

    Raises ``ImageError`` where it is damaged, or larger than ``limit`` bytes.
    """
    title, kind = _FORMATS[bytes(payload[:2])]
    size = int.from_bytes(payload[-4:], "little")
    if size > limit:
        raise ImageError(f"{name}: the {title} payload holds {size:#x} bytes, the guest's memory {limit:#x}")
    unpacked, scratch, given = kind(payload), Scratch(size), 0
    try:
        for piece in unpacked.pieces():
            given += len(piece)
            if given > size:
                break
            scratch[given - len(piece) : given] = piece
    except (zlib.error, lzma.LZMAError, lz4.block.LZ4BlockError, OSError, ValueError) as problem:
        raise ImageError(
            f"{name}: the {title} payload of {len(payload):#x} bytes is damaged: {problem}"
        ) from problem
    if not unpacked.whole or given != size:
        amount = "more" if given > size else f"{given:#x}"
        ending = "" if unpacked.whole or given > size else " without an end"
        raise ImageError(f"{name}: the {title} payload gives {amount} bytes{ending}, its trailer says {size:#x}")
    return memoryview(scratch)[:size]
