"""An image's memory on the host goes as the image is read into the guest."""

from __future__ import annotations

import mmap

import numpy as np

from hvmx.boot import Segment, read_segments
from hvmx.boot.scratch import PIECE, Scratch, address_of


def resident(view: memoryview) -> int:
    """How many bytes of `view`'s pages are in the host's memory."""
    pages = -(-len(view) // mmap.PAGESIZE)
    with open("/proc/self/pagemap", "rb") as file:
        file.seek(address_of(view) // mmap.PAGESIZE * 8)
        entries = np.frombuffer(file.read(pages * 8), np.uint64)
    return int((entries >> np.uint64(63)).sum()) * mmap.PAGESIZE


def filled(size: int) -> tuple[Scratch, bytes]:
    content = bytes(number * 37 & 255 for number in range(251)) * (size // 251 + 1)
    scratch = Scratch(size)
    scratch[:size] = content[:size]
    return scratch, content[:size]


def test_segments_are_read_whole_and_their_memory_is_given_back() -> None:
    size = 5 * PIECE + 12345
    scratch, content = filled(size)
    view = memoryview(scratch)
    segments = [Segment(0x1000, view[100:PIECE]), Segment(0x900000, view[PIECE:size]), Segment(0x5000, b"other")]
    before = resident(view)
    read: dict[int, bytes] = {}
    for physical, piece in read_segments(segments):
        assert len(piece) <= PIECE
        read[physical] = bytes(piece)
    assert b"".join(read[at] for at in sorted(read) if at < 0x5000) == content[100:PIECE]
    assert b"".join(read[at] for at in sorted(read) if at >= 0x900000) == content[PIECE:]
    assert read[0x5000] == b"other"
    assert before >= size and resident(view) < 3 * 4096 + 0x1000


def test_what_two_segments_share_is_there_for_both() -> None:
    size = 2 * PIECE
    scratch, content = filled(size)
    view = memoryview(scratch)
    segments = [Segment(0, view), Segment(size, view[PIECE // 2 : PIECE])]
    read = b"".join(bytes(piece) for _, piece in read_segments(segments))
    assert read == content + content[PIECE // 2 : PIECE]


def test_memory_that_is_the_callers_stays_as_it_is() -> None:
    content = bytearray(range(256)) * 8192
    for _ in read_segments([Segment(0, content)]):
        pass
    assert content == bytearray(range(256)) * 8192
