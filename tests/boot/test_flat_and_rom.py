"""Flat binaries and ROMs, and which format an image is taken for."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from guests import guest

from hvmx.boot import ImageError, prepare

from . import images
from .guest_memory import MEMORY, prepared, problem_id, read
from .images import HALT, MiB


def test_a_16_bit_binary_starts_as_a_boot_sector() -> None:
    machine = prepared(HALT, bits=16)
    cpu = machine.cpu
    assert machine.kind == "flat"
    assert read(machine, 0x7C00, len(HALT)) == HALT
    assert cpu.registers["rip"] == 0x7C00
    assert cpu.registers["cr0"] & 1 == 0, "real mode"
    assert cpu.segments["cs"] == (0, 0, 0xFFFF, 0x93)
    assert cpu.segments["ss"] == (0, 0, 0xFFFF, 0x93)
    assert cpu.idtr == (0, 0xFFFF)


def test_a_16_bit_binary_above_64_kib_is_entered_through_its_segment() -> None:
    cpu = prepared(HALT, bits=16, load_address=0x2FFFF, entry=0x30001).cpu
    assert cpu.segments["cs"] == (0x3000, 0x30000, 0xFFFF, 0x93)
    assert cpu.registers["rip"] == 1


@pytest.mark.parametrize(("bits", "cr0", "efer"), [(32, 0x11, 0), (64, 0x80000011, 0x500)])
def test_a_wider_binary_is_entered_in_its_mode_with_a_stack(bits: int, cr0: int, efer: int) -> None:
    machine = prepared(HALT * 2, bits=bits, load_address=0x200000, entry=0x200003)
    registers = machine.cpu.registers
    assert (registers["rip"], registers["cr0"], registers["efer"]) == (0x200003, cr0, efer)
    stack = [s for s in machine.memory if s.physical < registers["rsp"] <= s.end]
    assert len(stack) == 1 and not any(stack[0].data), "RSP is the top of a page of its own"


def test_a_binary_with_an_address_is_32_bit_and_at_1_mib_without_one() -> None:
    assert prepared(HALT, entry=MiB).cpu.registers["cr0"] == 0x11
    assert prepared(HALT, load_address=MiB).memory[-1].physical == MiB
    assert prepared(HALT, bits=32).memory[-1].physical == MiB


def test_an_address_makes_any_image_a_flat_binary() -> None:
    assert prepared(images.multiboot_elf(), load_address=MiB).kind == "flat"


def test_what_the_loader_adds_stays_clear_of_a_binary_in_low_memory() -> None:
    machine = prepared(bytes(0x90000), bits=64, load_address=0x1000, entry=0x1000)
    assert len(machine.memory) == 4, "the binary, a GDT, a stack and page tables"
    assert all(left.end <= right.physical for left, right in pairwise(machine.memory))


def test_a_rom_ends_at_4_gib_and_is_shadowed_below_1_mib() -> None:
    rom = bytes(range(256)) * 0x400
    machine = prepared(None, bios=rom)
    assert [(r.physical, bytes(r.data)) for r in machine.roms] == [(0xFFFC0000, rom)]
    assert [(s.physical, bytes(s.data)) for s in machine.memory] == [(0xE0000, rom[-0x20000:])]


def test_a_small_rom_is_shadowed_whole() -> None:
    machine = prepared(None, bios=bytes(0x10000))
    assert [s.physical for s in machine.memory] == [0xF0000]


def test_a_rom_starts_from_the_state_of_a_reset() -> None:
    cpu = prepared(None, bios=guest("seabios")).cpu
    assert cpu.segments["cs"] == (0xF000, 0xFFFF0000, 0xFFFF, 0x93)
    assert {cpu.segments[name] for name in ("ds", "es", "fs", "gs", "ss")} == {(0, 0, 0xFFFF, 0x93)}
    assert cpu.segments["ldtr"] == (0, 0, 0xFFFF, 0x82)
    assert cpu.segments["tr"] == (0, 0, 0xFFFF, 0x8B)
    assert cpu.gdtr == cpu.idtr == (0, 0xFFFF)
    assert {name: value for name, value in cpu.registers.items() if value} == {
        "rip": 0xFFF0,
        "rflags": 2,
        "cr0": 0x60000010,
    }


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"load_address": MEMORY - 2}, "at 0x3fffffe to 0x4000001 is outside the guest's RAM"),
        ({"load_address": 0x9FBFE, "entry": 0x9FBFE}, "at 0x9fbfe to 0x9fc01 is outside"),
        ({"load_address": -1}, "at -0x1 to 0x2 is outside"),
        ({"load_address": 1 << 64}, "at 0x10000000000000000"),
        ({"entry": 0}, "entry 0x0 is outside the flat binary at 0x100000 to 0x100003"),
        ({"bits": 16, "load_address": MiB}, "entry 0x100000 is outside the 0x100000 bytes of 16-bit mode"),
        ({"bits": 32, "command_line": "x"}, "takes no initrd, modules or command line"),
        ({}, "no known format .starts with f4ebfd."),
        ({"memory_bytes": 0x200000, "bits": 64, "initrd": bytes(0x200001)}, "<bytes>: larger than 0x200000 bytes"),
    ],
    ids=problem_id,
)
def test_what_cannot_be_placed_or_entered_is_refused(options: dict[str, object], problem: str) -> None:
    with pytest.raises(ImageError, match=problem):
        prepared(HALT, **options)


@pytest.mark.parametrize(
    ("rom", "problem"),
    [
        (b"", "the file is empty"),
        (bytes(0x1001), "a ROM of 0x1001 bytes"),
        (bytes((16 << 20) + 0x1000), "a ROM of 0x1001000 bytes"),
    ],
    ids=problem_id,
)
def test_a_rom_of_an_impossible_size_is_refused(rom: bytes, problem: str) -> None:
    with pytest.raises(ImageError, match=problem):
        prepare(None, bios=rom, memory_bytes=MEMORY)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(ImageError, match=f"{missing}: cannot be read: No such file"):
        prepare(missing, memory_bytes=MEMORY)
    with pytest.raises(ImageError, match=f"{tmp_path}: cannot be read: Is a directory"):
        prepare(images.pvh_elf(), initrd=tmp_path, memory_bytes=MEMORY)


@pytest.mark.parametrize("memory_bytes", [0, -0x1000, 0x1001, 0xFFF])
def test_memory_that_is_not_whole_pages_is_refused(memory_bytes: int) -> None:
    with pytest.raises(ValueError, match="4096-byte pages"):
        prepare(HALT, bits=16, memory_bytes=memory_bytes)


def test_the_same_image_prepares_the_same_machine() -> None:
    for image in (images.xz_bzimage(bits=64), images.multiboot_elf(), images.pvh_elf()):
        assert prepared(image, command_line="a", initrd=b"b") == prepared(
            image, command_line="a", initrd=b"b"
        )
