"""Linux bzImages are loaded as Documentation/x86/boot.rst and zero-page.rst say."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import lz4.block
import pytest
from elftools.elf.elffile import ELFFile
from guests import guest

from hvmx.boot import ImageError, Prepared, prepare

from . import images
from .guest_memory import MEMORY, number, prepared, problem_id, read, string, structures
from .images import MiB

RAM, RESERVED = 1, 2


def boot_params(machine: Prepared) -> int:
    return machine.cpu.registers["rsi"]


def field(machine: Prepared, offset: int, size: int) -> int:
    return number(machine, boot_params(machine) + offset, size)


def lz4_legacy(octets: bytes) -> bytes:
    frame = b"\x02\x21\x4c\x18"
    for start in range(0, len(octets), 8 << 20):
        block = lz4.block.compress(octets[start : start + (8 << 20)], store_size=False)
        frame += struct.pack("<I", len(block)) + block
    return frame


@pytest.fixture(params=["linux-686", "linux-cloud-amd64"])
def debian(request: pytest.FixtureRequest) -> Path:
    return guest(request.param)


def test_the_memory_map_tells_the_pc_hole_the_ebda_and_the_rest_above_4_gib() -> None:
    machine = prepared(images.xz_bzimage(), memory_bytes=5 << 30)
    entries = structures(machine, boot_params(machine) + 0x2D0, field(machine, 0x1E8, 1), "<QQI")
    assert entries == [
        (0, 0x9FC00, RAM),
        (0x9FC00, 0x400, RESERVED),
        (0xF0000, 0x10000, RESERVED),
        (MiB, (3 << 30) - MiB, RAM),
        (4 << 30, 2 << 30, RAM),
    ]


def test_boot_params_hold_the_images_header_and_what_the_loader_must_write() -> None:
    image = images.xz_bzimage()
    machine = prepared(image, command_line="console=ttyS0 quiet", initrd=b"initrd" * 1000)
    params = boot_params(machine)
    for offset, end in ((0x1F1, 0x210), (0x22C, 0x26C)):
        assert read(machine, params + offset, end - offset) == image[offset:end], f"header at {offset:#x}"
    assert field(machine, 0x210, 1) == 0xFF, "type_of_loader"
    assert field(machine, 0x211, 1) == 1, "loadflags"
    assert field(machine, 0x214, 4) == MiB, "code32_start"
    assert read(machine, field(machine, 0x218, 4), field(machine, 0x21C, 4)) == b"initrd" * 1000, "ramdisk"
    assert string(machine, field(machine, 0x228, 4)) == "console=ttyS0 quiet", "cmd_line_ptr"
    assert field(machine, 0x1E0, 4) == (MEMORY - MiB) >> 10, "alt_mem_k"
    assert field(machine, 0x1EF, 1) == 0, "the sentinel tells that boot_params were zeroed"
    assert read(machine, params, 0x1E0) == bytes(2) + struct.pack("<H", (MEMORY - MiB) >> 10) + bytes(0x1DC)


def test_the_initrd_lies_on_a_page_below_initrd_addr_max_and_above_the_kernel() -> None:
    highest = 0x2FFFFFF
    kernel = images.vmlinux()
    image = images.bzimage(images.sized(lzma.compress(kernel), kernel), initrd_addr_max=(0x22C, 4, highest))
    machine = prepared(image, initrd=bytes(0x1234))
    start, size = field(machine, 0x218, 4), field(machine, 0x21C, 4)
    assert start % 0x1000 == 0
    assert start == (highest + 1 - 0x1234) & ~0xFFF
    assert size == 0x1234


def test_an_initrd_too_large_for_the_guest_names_both_sizes() -> None:
    with pytest.raises(ImageError, match="the initrd of 0x2000000 bytes does not fit between 0x203000"):
        prepare(images.xz_bzimage(), memory_bytes=32 * MiB, initrd=bytes(32 * MiB))


@pytest.mark.parametrize("bits", [32, 64])
def test_a_decompressed_kernel_is_entered_at_its_physical_entry(bits: int) -> None:
    machine = prepared(images.xz_bzimage(bits=bits))
    cpu = machine.cpu
    assert cpu.registers["rip"] == 2 * MiB
    assert read(machine, 2 * MiB, len(images.HALT)) == images.HALT
    assert cpu.registers["cr0"] == (0x11 if bits == 32 else 0x80000011)
    assert cpu.registers["efer"] == (0 if bits == 32 else 0x500)
    assert cpu.segments["cs"].selector == 0x10
    assert {cpu.segments[name].selector for name in ("ds", "es", "ss")} == {0x18}
    assert cpu.registers["rflags"] == 2, "interrupts are off"


@pytest.mark.parametrize(
    "compress", [gzip.compress, bz2.compress, lzma.compress, lz4_legacy], ids=["gzip", "bzip2", "xz", "lz4"]
)
def test_each_compression_gives_the_kernel_inside(compress: Callable[[bytes], bytes]) -> None:
    kernel = images.vmlinux()
    packed = compress(kernel)
    if compress is not gzip.compress:  # whose own trailer ends in the size
        packed = images.sized(packed, kernel)
    assert prepared(images.bzimage(packed)).cpu.registers["rip"] == 2 * MiB


def test_lzma_alone_gives_the_kernel_inside() -> None:
    kernel = images.vmlinux()
    packed = images.sized(lzma.compress(kernel, format=lzma.FORMAT_ALONE), kernel)
    assert prepared(images.bzimage(packed)).cpu.registers["rip"] == 2 * MiB


def test_an_unknown_compression_takes_the_real_boot_path() -> None:
    machine = prepared(images.bzimage(b"\x28\xb5\x2f\xfd" + bytes(60)))
    assert machine.cpu.registers["rip"] == MiB
    assert "as it is" in machine.description


@pytest.mark.parametrize(
    "image",
    [images.xz_bzimage(), images.multiboot_elf(), images.pvh_elf(), images.xen_elf()],
    ids=["linux", "multiboot", "pvh", "xen"],
)
def test_an_image_packed_by_gzip_is_prepared_as_what_is_inside(image: bytes) -> None:
    pv = image == images.xen_elf()
    packed, plain = (prepare(octets, memory_bytes=64 * MiB, pv=pv) for octets in (gzip.compress(image), image))
    assert packed == plain


def test_a_flat_binary_is_loaded_as_it_is_even_if_it_looks_like_gzip() -> None:
    image = gzip.compress(images.HALT)
    assert read(prepared(image, load_address=MiB), MiB, len(image)) == image


@pytest.mark.parametrize(("xloadflags", "entry"), [(0, MiB), (1, MiB + 0x200)], ids=["32-bit", "64-bit"])
def test_without_decompression_the_protected_mode_code_is_at_1_mib(xloadflags: int, entry: int) -> None:
    image = images.bzimage(b"\xfd7zXZ" + bytes(0x200), xloadflags=xloadflags)
    machine = prepared(image, decompress=False)
    assert read(machine, MiB, len(image) - 1024) == image[1024:]
    assert machine.cpu.registers["rip"] == entry


@pytest.mark.parametrize("pv", [False, True])
def test_only_a_bzimage_run_as_hvm_may_be_left_to_decompress_itself(pv: bool) -> None:
    image = images.bzimage(b"\xfd7zXZ" + bytes(0x200)) if pv else images.multiboot_elf()
    with pytest.raises(ImageError, match="left to decompress itself"):
        prepare(image, memory_bytes=64 * MiB, pv=pv, decompress=False)


def test_64_bit_mode_maps_the_first_4_gib_to_themselves() -> None:
    machine = prepared(images.xz_bzimage(bits=64))
    for linear in (0, 0x123456, 0x3FFFFFFF, 0x40000000, 0xFEE00000, 0xFFFFFFFF):
        table = machine.cpu.registers["cr3"]
        for shift in (39, 30):
            entry = number(machine, table + 8 * (linear >> shift & 0x1FF), 8)
            assert entry & 0xFFF == 3, f"{linear:#x}: entry {entry:#x} at level {shift}"
            table = entry & ~0xFFF
        page = number(machine, table + 8 * (linear >> 21 & 0x1FF), 8)
        assert page == (linear & ~0x1FFFFF) | 0x83, f"{linear:#x} maps to {page:#x}"


def test_the_boot_gdt_holds_the_segments_that_are_loaded() -> None:
    for bits, code in ((32, 0x00CF9B000000FFFF), (64, 0x00AF9B000000FFFF)):
        machine = prepared(images.xz_bzimage(bits=bits))
        base, limit = machine.cpu.gdtr
        assert limit == 0x1F
        assert structures(machine, base, 4, "<Q") == [(0,), (0,), (code,), (0x00CF93000000FFFF,)]


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (images.bzimage(b"", version=0x0201), "boot protocol 0x0201 is older than 2.02"),
        (images.bzimage(b"", loadflags=(0x211, 1, 0)), "zImage"),
        (images.bzimage(b"", code32_start=(0x214, 4, 0)), "no 32-bit entry .* needs a BIOS"),
        (images.bzimage(b"", setup_sects=(0x1F1, 1, 255)), "setup code of 0x20000 bytes, the file has 0x440"),
        (gzip.compress(images.xz_bzimage())[:-9], "bad.img: the gzip payload"),
        (images.xz_bzimage()[:0x240], "header is cut off at 0x240"),
        (images.bzimage(b"", syssize=(0x1F4, 4, 0x6)), "ends at 0x460 is cut off at 0x440"),
        (images.bzimage(b"\xfd7", payload_length=(0x24C, 4, 0xFFFFFFFF)), "0x440 to 0x10000043f lies behind"),
        (images.bzimage(b"\xfd7zXZ\0" + bytes(8)), "the xz payload of 0xe bytes is damaged"),
        (images.bzimage(images.sized(lzma.compress(b"x" * 99), b"x" * 98)), "trailer says 0x62"),
        (images.bzimage(images.sized(lzma.compress(b"x" * 99)[:-20], b"x" * 99)), "without an end"),
        (images.bzimage(b"\xfd7zXZ\0\xff\xff\xff\x7f"), "holds 0x7fffffff bytes, the guest's memory 0x4000000"),
        (images.bzimage(images.sized(lzma.compress(b"no kernel"), b"no kernel")), "not a little-endian"),
        (images.bzimage(b"", xloadflags=1), "0x40 bytes of Linux kernel do not reach its entry at 0x100200"),
        (images.bzimage(b"", init_size=(0x260, 4, 0xFFFFFFFF)), "Linux runs at up to 0x1001fffff"),
        (images.bzimage(b"", pref_address=(0x258, 8, 2**64 - 1)), "Linux runs at up to 0x1000000000000ffff"),
    ],
    ids=problem_id,
)
def test_a_bad_bzimage_is_refused_with_what_is_wrong(image: bytes, problem: str) -> None:
    with pytest.raises(ImageError, match=problem) as raised:
        prepare(image, memory_bytes=MEMORY, name="bad.img")
    assert str(raised.value).startswith("bad.img")


def test_a_command_line_longer_than_the_kernel_takes_is_refused() -> None:
    assert prepared(images.xz_bzimage(), command_line="x" * 255)
    with pytest.raises(ImageError, match="256 bytes long, the image takes at most 255"):
        prepare(images.xz_bzimage(), memory_bytes=MEMORY, command_line="x" * 256)


def test_debian_kernels_are_decompressed_to_what_readelf_sees(debian: Path, tmp_path: Path) -> None:
    machine = prepared(debian, memory_bytes=128 * MiB)
    image = debian.read_bytes()
    start = (image[0x1F1] + 1) * 512 + int.from_bytes(image[0x248:0x24C], "little")
    payload = image[start : start + int.from_bytes(image[0x24C:0x250], "little")]
    # The tools that come with the compressions, not the functions under test.
    tool = ["xz", "-dc", "--single-stream"] if payload.startswith(b"\xfd7zXZ") else ["lz4", "-dc"]
    try:
        kernel = subprocess.run(tool, input=payload[:-4], capture_output=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip(f"no {tool[0]} to compare with")
    assert len(kernel) == int.from_bytes(payload[-4:], "little")

    executable = ELFFile(io.BytesIO(kernel))
    assert machine.cpu.registers["rip"] == executable["e_entry"]
    loads = [s for s in executable.iter_segments("PT_LOAD") if s["p_memsz"]]
    assert loads, "the oracle found no segments"
    placed = {segment.physical: segment for segment in machine.memory}
    for load in loads:
        segment = placed[load["p_paddr"]]
        assert segment.data == load.data(), f"contents of the segment at {load['p_paddr']:#x}"
        assert len(segment.data) + segment.zero_fill == load["p_memsz"]


def test_debian_kernels_have_the_entry_that_their_width_asks_for(debian: Path) -> None:
    long = "amd64" in debian.name
    machine = prepared(debian, memory_bytes=128 * MiB, decompress=False)
    assert machine.cpu.registers["rip"] == (MiB + 0x200 if long else MiB)
    assert "protocol 2.15" in machine.description
    assert read(machine, boot_params(machine) + 0x202, 4) == b"HdrS"
    assert field(machine, 0x1FE, 2) == 0xAA55
    assert bool(machine.cpu.registers["efer"]) == long


def test_memtest_has_no_payload_and_boots_as_it_is() -> None:
    machine = prepared(guest("memtest-x64"))
    assert machine.cpu.registers["rip"] == MiB + 0x200
    assert machine.cpu.registers["efer"] == 0x500
