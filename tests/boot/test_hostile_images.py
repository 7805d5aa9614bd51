"""No image, however wrong, gets more than an ``ImageError``, or memory that is not the guest's.

`HVMX_NIGHTLY=1` tries 20,000 mutated images instead of 600.
"""

from __future__ import annotations

import gzip
import lzma
import os
import struct
import tracemalloc
import zlib

import lz4.block
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmx import Machine
from hvmx.boot import ImageError, Prepared, Segment, XenImage, prepare
from hvmx.boot.linux import is_linux

from . import images
from .images import Load, MiB

MEMORY = 16 * MiB
EXAMPLES = 20_000 if os.environ.get("HVMX_NIGHTLY") == "1" else 600
IMAGES = {
    "multiboot": images.multiboot_elf(),
    "multiboot addresses": images.multiboot_header(1 << 16, MiB, MiB, MiB + 99, MiB + 200, MiB) + bytes(100),
    "pvh32": images.pvh_elf(bits=32),
    "pvh64": images.pvh_elf(bits=64),
    "xen": images.xen_elf(),
    "bzimage": images.xz_bzimage(),
    "bzimage64": images.xz_bzimage(bits=64),
    "gzip": images.bzimage(gzip.compress(images.vmlinux(), mtime=0)),
    "multiboot in gzip": gzip.compress(images.multiboot_elf(), mtime=0),
}
INTERESTING = st.sampled_from(
    [0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An image with some numbers replaced and perhaps its end cut off, or something behind it."""
    image = bytearray(draw(st.sampled_from(sorted(IMAGES.values()))))
    for _ in range(draw(st.integers(0, 4))):
        size = draw(st.sampled_from([1, 2, 4, 8]))
        value = draw(st.one_of(INTERESTING, st.integers(0, (1 << 64) - 1)))
        offset = draw(st.integers(0, len(image) - 8))
        image[offset : offset + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    if draw(st.booleans()):
        del image[draw(st.integers(0, len(image))) :]
    return bytes(image) + draw(st.binary(max_size=16))


def assert_inside(segments: list[Segment], memory_bytes: int) -> None:
    end = 0
    for segment in segments:
        assert segment.physical >= end, f"{segment.physical:#x} overlaps what ends at {end:#x}"
        assert segment.zero_fill >= 0
        end = segment.end
    assert end <= memory_bytes, f"{end:#x} is outside {memory_bytes:#x} bytes of memory"


def assert_safe(image: bytes, **options: object) -> None:
    """``image`` gives a machine inside its memory, or an ImageError that names it."""
    try:
        machine = prepare(image, memory_bytes=MEMORY, name="hostile.img", **options)  # type: ignore[arg-type]
    except ImageError as error:
        assert str(error).startswith("hostile.img"), f"the message does not name the file: {error}"
        return
    if isinstance(machine, XenImage):
        assert_inside(machine.segments, MEMORY)
        assert machine.virt_start <= machine.entry < machine.virt_end
    else:
        assert_inside(machine.memory, MEMORY)
        assert_enterable(machine)


def assert_enterable(machine: Prepared) -> None:
    rip = machine.cpu.registers["rip"] + machine.cpu.segments["cs"].base
    assert any(s.physical <= rip < s.end for s in machine.memory), f"nothing was loaded at the entry {rip:#x}"
    for name, value in machine.cpu.registers.items():
        assert 0 <= value < 1 << 64, f"{name} is {value:#x}"


def test_the_images_that_are_mutated_are_good_ones() -> None:
    for name, image in IMAGES.items():
        assert prepare(image, memory_bytes=MEMORY, pv=name == "xen"), name


@settings(max_examples=EXAMPLES, deadline=None)
@given(image=mutated(), pv=st.booleans(), decompress=st.booleans())
def test_a_mutated_image_is_prepared_inside_memory_or_refused(
    image: bytes, pv: bool, decompress: bool
) -> None:
    assert_safe(image, pv=pv, decompress=decompress or pv or not is_linux(image))


@settings(max_examples=EXAMPLES // 3, deadline=None)
@given(image=mutated(), pv=st.booleans(), decompress=st.booleans())
def test_a_mutated_image_is_loaded_and_begins_to_run_or_is_refused(
    image: bytes, pv: bool, decompress: bool
) -> None:
    machine = Machine(MEMORY)
    try:
        machine.load(image, pv=pv, decompress=decompress or pv or not is_linux(image))
    except ValueError as error:  # ImageError is one
        assert str(error), "an error that says nothing"
        return
    machine.run(cycles=20_000, timeout=10)


@settings(max_examples=EXAMPLES // 3, deadline=None)
@given(image=st.binary(max_size=0x3000), pv=st.booleans())
def test_noise_is_prepared_inside_memory_or_refused(image: bytes, pv: bool) -> None:
    assert_safe(image, pv=pv)


@settings(max_examples=EXAMPLES // 3, deadline=None)
@given(
    image=st.binary(max_size=64),
    load_address=st.one_of(st.none(), st.integers(-1, 1 << 65)),
    entry=st.one_of(st.none(), st.integers(-1, MEMORY)),
    bits=st.sampled_from([16, 32, 64]),
)
def test_any_flat_binary_is_prepared_inside_memory_or_refused(
    image: bytes, load_address: int | None, entry: int | None, bits: int
) -> None:
    assert_safe(image, load_address=load_address, entry=entry, bits=bits)


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_cut_off_anywhere_is_prepared_inside_memory_or_refused(name: str) -> None:
    image = IMAGES[name]
    for size in range(0, len(image), 7):
        assert_safe(image[:size], pv=name == "xen")


@pytest.mark.parametrize("memory_bytes", [0x1000, 0x2000, 0xA0000, MiB])
def test_a_machine_too_small_for_the_image_refuses_it(memory_bytes: int) -> None:
    for image in (images.multiboot_elf(), images.pvh_elf(), images.xz_bzimage()):
        with pytest.raises(ImageError, match="guest's RAM|guest's memory"):
            prepare(image, memory_bytes=memory_bytes)


def peak_of(image: bytes) -> int:
    """The most memory held while ``image`` was refused, in bytes."""
    tracemalloc.start()
    try:
        with pytest.raises(ImageError):
            prepare(image, memory_bytes=MEMORY)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_decompression_bomb_is_refused_before_it_is_decompressed() -> None:
    bomb = bytes(20 * MEMORY)
    for packed in (gzip.compress(bomb), images.sized(lzma.compress(bomb, preset=0), bomb)):
        assert peak_of(images.bzimage(packed)) < MiB
    assert peak_of(gzip.compress(bomb)) < MiB


def test_a_decompression_bomb_that_lies_about_its_size_stops_at_what_it_said() -> None:
    said = MEMORY // 2
    for packed in (lzma.compress(bytes(20 * MEMORY), preset=0), gzip.compress(bytes(20 * MEMORY))):
        assert peak_of(images.bzimage(packed + struct.pack("<I", said))) < 2 * said + MiB


def test_lz4_blocks_that_lie_about_the_size_stop_within_a_block_of_it() -> None:
    block = lz4.block.compress(bytes(8 * MiB), store_size=False)
    frame = b"\x02\x21\x4c\x18" + (struct.pack("<I", len(block)) + block) * 40 + struct.pack("<I", 4 * MiB)
    assert peak_of(images.bzimage(frame)) < 3 * 8 * MiB


def test_an_xz_header_that_asks_for_a_huge_dictionary_is_refused() -> None:
    kernel = images.vmlinux()
    packed = bytearray(lzma.compress(kernel, check=lzma.CHECK_NONE))
    # The xz file format, 3.1: the block header starts with its size, holds filter 0x21 with one octet of
    # properties, which is the dictionary's size, and ends with its CRC. 39 stands for 3 GiB.
    start, end = 12, 12 + (packed[12] + 1) * 4
    packed[packed.index(b"\x21\x01", start) + 2] = 39
    packed[end - 4 : end] = struct.pack("<I", zlib.crc32(packed[start : end - 4]))
    with pytest.raises(ImageError, match="[Mm]emory"):
        prepare(images.bzimage(images.sized(bytes(packed), kernel)), memory_bytes=MEMORY)


def test_the_largest_number_of_segments_takes_no_more_than_its_time() -> None:
    loads = [Load(MiB + 16 * index, b"x", memsz=16) for index in range(0xFFFD)]
    note = images.note(18, struct.pack("<I", MiB))
    machine = prepare(images.elf_image(bits=64, loads=loads, entry=MiB, notes=note), memory_bytes=MEMORY)
    assert isinstance(machine, Prepared)
    assert len(machine.memory) >= len(loads)
    overlapping = [*loads[:-1], Load(MiB, b"y")]
    assert_safe(images.elf_image(bits=64, loads=overlapping, entry=MiB, notes=note))


def test_more_program_headers_than_the_elf_header_can_count_are_refused() -> None:
    image = bytearray(images.pvh_elf())
    image[0x38:0x3A] = struct.pack("<H", 0xFFFF)
    with pytest.raises(ImageError, match="0xffff or more program headers"):
        prepare(bytes(image), memory_bytes=MEMORY)


def test_notes_that_many_headers_share_are_read_within_a_bound() -> None:
    image = bytearray(images.elf_image(bits=64, loads=[Load(MiB)], entry=MiB, notes=bytes(0x10000)))
    header = bytes(image[64 + 56 : 64 + 112])
    count = 0x8000
    image[0x20:0x28] = struct.pack("<Q", len(image))
    image[0x38:0x3A] = struct.pack("<H", count + 1)
    image += image[64 : 64 + 56] + header * count
    with pytest.raises(ImageError, match="0x80000000 bytes of ELF notes"):
        prepare(bytes(image), memory_bytes=MEMORY)
