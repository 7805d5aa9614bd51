"""Multiboot, PVH and Xen PV images are loaded as their specifications say."""

from __future__ import annotations

import gzip
import struct
import subprocess
from pathlib import Path

import pytest
from guests import guest

from hvmx.boot import ImageError, Prepared, prepare

from . import images
from .guest_memory import MEMORY, number, prepared, prepared_pv, problem_id, read, string, structures
from .images import HALT, VIRT_BASE, Load, MiB

MULTIBOOT_GUEST = """
        .section .text
        .globl start
        .align 4
        .long 0x1badb002, 0x00000003, -(0x1badb002 + 0x00000003)
start:  hlt
        jmp start
        .bss
        .space 0x100
"""
PVH_GUEST = """
        .section .note.Xen, "a", @note
        .long 4, 4, 18
        .asciz "Xen"
        .long start
        .text
        .globl start
start:  hlt
        jmp start
"""
FLAT_DATA = (0, 0xFFFFFFFF, 0xC093)


def assert_flat_32_bit(machine: Prepared) -> None:
    cpu = machine.cpu
    assert cpu.registers["cr0"] == 0x11, "protection is on and paging is off"
    assert cpu.registers["cr4"] == cpu.registers["efer"] == 0
    assert cpu.registers["rflags"] == 2
    assert cpu.segments["cs"][1:] == (0, 0xFFFFFFFF, 0xC09B)
    for name in ("ds", "es", "fs", "gs", "ss"):
        assert cpu.segments[name][1:] == FLAT_DATA, name
    assert cpu.segments["tr"][1:] == (0, 0x67, 0x8B), "a busy 32-bit TSS, as PVH has it"


def test_multiboot_information_describes_the_machine_and_its_modules() -> None:
    machine = prepared(images.multiboot_elf(), command_line="a=1", initrd=b"1" * 5000, modules=[b"2"])
    assert_flat_32_bit(machine)
    assert machine.kind == "multiboot"
    assert machine.cpu.registers["rax"] == 0x2BADB002
    info = machine.cpu.registers["rbx"]
    flags, lower, upper = structures(machine, info, 1, "<3I")[0]
    assert flags == 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9
    assert (lower, upper) == (639, (MEMORY - MiB) >> 10)
    command_line, count, modules = structures(machine, info + 16, 1, "<3I")[0]
    assert string(machine, command_line) == "image a=1", "the first word is the kernel's name"
    contents = []
    for start, end, _string, reserved in structures(machine, modules, count, "<4I"):
        assert start % 0x1000 == 0 and start >= MiB + 0x1000, "modules lie on pages, behind the kernel"
        assert reserved == 0
        contents.append(read(machine, start, end - start))
    assert contents == [b"1" * 5000, b"2"]
    length, address = structures(machine, info + 44, 1, "<2I")[0]
    regions = structures(machine, address, length // 24, "<IQQI")
    assert {size for size, *_ in regions} == {20}
    assert (MiB, MEMORY - MiB, 1) in [tuple(region[1:]) for region in regions]
    assert string(machine, number(machine, info + 64, 4)) == "hvmx"


@pytest.mark.parametrize("image", [images.multiboot_elf(), images.xz_bzimage()], ids=["multiboot", "linux"])
def test_the_bios_data_area_tells_where_low_memory_ends(image: bytes) -> None:
    machine = prepared(image)
    assert number(machine, 0x40E, 2) << 4 == 0x9FC00, "the EBDA's segment; Xen takes it for the end of its own memory"
    assert number(machine, 0x413, 2) == 639


def test_a_guest_without_video_memory_is_told_the_low_memory_that_it_has() -> None:
    header = images.multiboot_header(1 << 16, 0x8000, 0x8000, 0, 0, 0x8000)
    machine = prepared(header + HALT, memory_bytes=256 << 10)
    assert number(machine, 0x413, 2) == number(machine, machine.cpu.registers["rbx"] + 4, 4) == 256


def test_a_module_is_named_by_its_file_without_the_hosts_directories(tmp_path: Path) -> None:
    path = tmp_path / "ramdisk.img"
    path.write_bytes(b"contents")
    machine = prepared(images.multiboot_elf(), modules=[path])
    modules = number(machine, machine.cpu.registers["rbx"] + 24, 4)
    assert string(machine, number(machine, modules + 8, 4)) == "ramdisk.img"


def test_multiboot_address_fields_load_any_file() -> None:
    header = images.multiboot_header(1 << 16, MiB + 0x10, MiB, MiB + 0x40, MiB + 0x1000, MiB + 0x38)
    machine = prepared(b"\xcc" * 0x10 + header + HALT * 20)
    segment = machine.memory[-1]
    assert (segment.physical, len(segment.data), segment.zero_fill) == (MiB, 0x40, 0xFC0)
    assert machine.cpu.registers["rip"] == MiB + 0x38


def test_multiboot_address_fields_of_zero_load_the_whole_file_without_bss() -> None:
    image = images.multiboot_header(1 << 16, MiB, MiB, 0, 0, MiB) + HALT
    segment = prepared(image).memory[-1]
    assert (segment.physical, len(segment.data), segment.zero_fill) == (MiB, len(image), 0)


def test_a_virtual_entry_point_is_translated_by_its_segment() -> None:
    load = Load(2 * MiB, HALT * 2, vaddr=0xC0200000)
    image = images.elf_image(bits=32, loads=[load], entry=0xC0200003, first=images.multiboot_header())
    assert prepared(image).cpu.registers["rip"] == 2 * MiB + 3


def test_a_multiboot_guest_built_by_gcc_is_loaded_where_readelf_says(tmp_path: Path) -> None:
    path = images.compile_guest(tmp_path, MULTIBOOT_GUEST, bits=32)
    machine = prepared(path)
    header = subprocess.run(["readelf", "-hW", path], capture_output=True, text=True, check=True).stdout
    entry = next(line.split()[-1] for line in header.splitlines() if "Entry point" in line)
    assert machine.cpu.registers["rip"] == int(entry, 16)
    assert read(machine, int(entry, 16), 1) == b"\xf4"


@pytest.mark.parametrize("bits", [32, 64])
def test_a_pvh_guest_built_by_gcc_is_entered_at_its_note(tmp_path: Path, bits: int) -> None:
    machine = prepared(images.compile_guest(tmp_path, PVH_GUEST, bits=bits))
    assert machine.kind == "pvh"
    assert read(machine, machine.cpu.registers["rip"], 3) == HALT


@pytest.mark.parametrize("bits", [32, 64])
def test_pvh_start_info_describes_the_machine_and_its_modules(bits: int) -> None:
    image = images.pvh_elf(bits=bits)
    machine = prepared(image, command_line="root=/dev/ram", initrd=b"initrd", modules=[b"other" * 999])
    assert_flat_32_bit(machine)
    info = structures(machine, machine.cpu.registers["rbx"], 1, "<4I4Q2I")[0]
    magic, version, flags, count, modules, command_line, rsdp, memory_map, regions, reserved = info
    assert (magic, version, flags, rsdp, reserved) == (0x336EC578, 1, 0, 0, 0)
    assert string(machine, command_line) == "root=/dev/ram"
    found = structures(machine, modules, count, "<4Q")
    assert [read(machine, physical, size) for physical, size, _, _ in found] == [b"initrd", b"other" * 999]
    entries = structures(machine, memory_map, regions, "<QQII")
    assert entries[0] == (0, 0x9FC00, 1, 0)
    assert entries[-1] == (MiB, MEMORY - MiB, 1, 0)


def test_the_decompressed_cloud_kernel_is_a_pvh_guest(tmp_path: Path) -> None:
    vmlinux = prepared_pv(guest("linux-cloud-amd64"), memory_bytes=128 * MiB).elf
    path = tmp_path / "vmlinux"
    path.write_bytes(vmlinux)
    machine = prepared(path, memory_bytes=128 * MiB)
    notes = subprocess.run(["readelf", "-nW", path], capture_output=True, text=True, check=True).stdout
    [value] = [line.split("data: ")[1] for line in notes.splitlines() if "(0x00000012)" in line]
    assert machine.cpu.registers["rip"] == int.from_bytes(bytes.fromhex(value), "little")


def test_debians_xen_is_a_multiboot_image() -> None:
    xen = gzip.decompress(guest("xen").read_bytes())
    machine = prepared(xen, modules=[b"dom0"])
    assert machine.kind == "multiboot"
    assert machine.cpu.registers["rip"] == 0x200000


def test_xen_notes_are_read_with_their_types() -> None:
    image = prepared_pv(images.xen_elf(), command_line="a b", initrd=b"ramdisk")
    assert image.virt_base == VIRT_BASE
    assert image.entry == VIRT_BASE + MiB
    assert image.hypercall_page == VIRT_BASE + MiB + 0x1000
    assert (image.virt_start, image.virt_end) == (VIRT_BASE + MiB, VIRT_BASE + MiB + 0x2000)
    assert image.features == {"writable_page_tables", "pae_pgdir_above_4gb"}
    assert image.required_features == {"writable_page_tables"}
    assert image.supported_features == 0x801
    assert image.pae_mode == "yes" and image.bsd_symtab
    assert image.l1_mfn_valid == [(1, 1)]
    assert image.init_p2m is None and not image.mod_start_pfn and not image.suspend_cancel
    assert [segment.physical for segment in image.segments] == [MiB]
    assert [bytes(module.data) for module in image.modules] == [b"ramdisk"]
    assert image.command_line == "a b"


def test_the_physical_addresses_of_a_pv_kernel_count_from_its_paddr_offset() -> None:
    load = Load(0x80000000 + MiB, HALT, memsz=0x2000)
    notes = images.xen_notes() + images.note(4, struct.pack("<Q", 0x80000000))
    image = prepared_pv(images.elf_image(bits=64, loads=[load], entry=0, notes=notes))
    assert image.segments[0].physical == MiB
    assert image.virt_start == VIRT_BASE + MiB


def test_debians_cloud_kernel_is_a_pv_kernel() -> None:
    image = prepared_pv(guest("linux-cloud-amd64"), memory_bytes=128 * MiB)
    assert image.virt_base == VIRT_BASE
    assert image.init_p2m == 0x8000000000
    assert image.hv_start_low == 0xFFFF800000000000
    assert image.features == {"writable_page_tables", "pae_pgdir_above_4gb"}
    assert image.required_features == {"writable_page_tables"}
    assert image.hypercall_page is None
    assert image.guest_os == "linux"


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (images.xen_elf(xen_version=None), "it has no XEN_VERSION note"),
        (images.xen_elf(xen_version=b"xen-2.0\0"), "its XEN_VERSION note is 'xen-2.0'"),
        (images.xen_elf(entry=b"\1\2\3"), r"Xen note ENTRY \(0x3 bytes: 010203\) is no number"),
        (images.xen_elf(entry=bytes(8)), "the Xen entry point 0x0 is outside the kernel at 0xffffffff801"),
        (images.xen_elf(features=b"\xff\xfe"), "Xen note FEATURES .* is no ASCII string"),
        (images.xen_elf(l1_mfn_valid=bytes(8)), "L1_MFN_VALID .* is no list of 16-byte pairs"),
        (images.xen_elf(virt_base=struct.pack("<Q", 2**64 - MiB)), "outside 64 bits"),
        (images.pvh_elf(), "it has no XEN_VERSION note"),
        (b"MZ" + bytes(100), "neither ELF nor bzImage"),
        (images.bzimage(b""), "this bzImage's payload is absent"),
    ],
    ids=problem_id,
)
def test_a_bad_pv_kernel_is_refused_with_what_is_wrong(image: bytes, problem: str) -> None:
    with pytest.raises(ImageError, match=problem):
        prepare(image, memory_bytes=MEMORY, pv=True)


def kludge(*addresses: int) -> bytes:
    return images.multiboot_header(1 << 16, *addresses) + bytes(100)


TOP = 0xFFFFF000


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (images.multiboot_elf(flags=1 << 2), "asks for features 0x4"),
        (images.multiboot_elf(flags=1 << 15 | 3), "asks for features 0x8000"),
        (images.multiboot_header() + bytes(100), "not a little-endian 32- or 64-bit ELF"),
        (kludge(MiB, MiB + 1, 0, 0, MiB), "at offset 0x0 claims address 0x100000"),
        (kludge(MiB, MiB - 1, 0, 0, MiB), "at offset 0x0 claims address 0x100000"),
        (kludge(MiB, MiB, MiB + 0x1000, 0, MiB), "loads 0x1000 bytes from offset 0x0 of a file of 0x84"),
        (kludge(MiB, MiB, MiB - 1, 0, MiB), "loads -0x1 bytes"),
        (kludge(MiB, MiB, 0, MiB, MiB), "ends the BSS at 0x100000"),
        (kludge(MiB, MiB, 0, 0, 0), "the entry point 0x0 is outside 0x100000 to 0x100084"),
        (kludge(TOP, TOP, 0, 0, TOP), "at 0xfffff000 to 0xfffff084 is outside the guest's RAM"),
        (images.elf_image(bits=32, loads=[Load(MiB)], entry=0), "the entry point 0x0 is in no loaded segment"),
        (images.pvh_elf()[:30], "an ELF header of 0x40 bytes is cut off at 0x1e"),
        (images.pvh_elf()[:100], "program headers at 0x40 to 0xb0 lie behind"),
        (images.pvh_elf()[:-1], "lies behind the file's end"),
        (images.pvh_elf(entry=0), "the PVH entry point 0x0 is in no loaded segment"),
        (images.elf_image(bits=64, loads=[], entry=0), "nothing to load"),
        (images.elf_image(bits=64, loads=[Load(MiB)], entry=0, machine=183), "for machine 0xb7, not for x86"),
    ],
    ids=problem_id,
)
def test_a_bad_multiboot_or_pvh_image_is_refused_with_what_is_wrong(image: bytes, problem: str) -> None:
    with pytest.raises(ImageError, match=problem) as raised:
        prepare(image, memory_bytes=MEMORY, name="bad.elf")
    assert str(raised.value).startswith("bad.elf: ")


@pytest.mark.parametrize(
    ("loads", "problem"),
    [
        ([Load(MiB, bytes(16)), Load(MiB + 15)], "overlaps what is at 0x100000 to 0x100010"),
        ([Load(MiB), Load(MiB - 1)], "is outside the guest's RAM"),
        ([Load(MiB), Load(2**64 - 2, b"x", memsz=0x100)], "to 0x100000000000000fe is outside"),
        ([Load(MiB), Load(2 * MiB, b"x", memsz=2**64 - 1)], "is outside the guest's RAM"),
        ([Load(MiB), Load(2 * MiB, bytes(9), memsz=8)], "0x9 bytes in the file and only 0x8 in memory"),
        ([Load(MiB), Load(MEMORY - 1, bytes(2))], "at 0x3ffffff to 0x4000001 is outside"),
    ],
    ids=problem_id,
)
def test_segments_that_overlap_or_leave_memory_are_refused(loads: list[Load], problem: str) -> None:
    image = images.elf_image(bits=64, loads=loads, entry=MiB, notes=images.note(18, struct.pack("<I", MiB)))
    with pytest.raises(ImageError, match=problem):
        prepare(image, memory_bytes=MEMORY)
