"""Memory for decompressed images, which is freed while it is being copied into the guest.

So, at any moment, loading an image takes little more host memory than the guest itself will.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence

import numpy as np

from .prepared import Segment

PIECE = 1 << 20


class Scratch(mmap.mmap):
    """Anonymous memory: zeros until it is written."""

    def __new__(cls, size: int) -> Scratch:  # noqa: PYI034 - Self is Python 3.11's
        return super().__new__(cls, -1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def read_segments(segments: Sequence[Segment]) -> Iterator[tuple[int, memoryview]]:
    """The data of segments in pieces, each with its physical address.

    A piece in ``Scratch`` is freed, and reads as zeros, once the next one is taken, unless a later segment needs it.
    """
    for index, segment in enumerate(segments):
        view = memoryview(segment.data)
        shared = any(_overlap(view, memoryview(later.data)) for later in segments[index + 1 :])
        for offset in range(0, len(view), PIECE):
            piece = view[offset : offset + PIECE]
            yield segment.physical + offset, piece
            if isinstance(view.obj, Scratch) and not shared:
                _give_back(view.obj, piece)


def _overlap(one: memoryview, other: memoryview) -> bool:
    if one.obj is not other.obj or not one or not other:
        return False
    first, second = address_of(one), address_of(other)
    return first < second + len(other) and second < first + len(one)


def _give_back(scratch: Scratch, piece: memoryview) -> None:
    start = address_of(piece) - address_of(memoryview(scratch))
    first, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, (start + len(piece)) // mmap.PAGESIZE * mmap.PAGESIZE
    if first < end:
        scratch.madvise(mmap.MADV_DONTNEED, first, end - first)


def address_of(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).ctypes.data)
