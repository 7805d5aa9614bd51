"""Plain ELF executables, as a linker makes them: loaded and entered where they say, with a board and without."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hvmx import Machine, StopKind
from hvmx.boot import ImageError, prepare

from . import images
from .images import Load, MiB

PROGRAM = """
static volatile unsigned numbers[4] = { 1, 2, 3, 4 };
static volatile unsigned char zeros[0x5000];

__attribute__((section(".text.start"))) void _start(void)
{
    unsigned sum = zeros[0x4fff];
    for (int i = 0; i < 4; i++)
        sum = sum * 10 + numbers[i];
    zeros[1] = 1;
    __asm__ volatile("hlt" : : "a"(sum + sizeof(void *) * 10000));
    for (;;)
        ;
}
"""


def link(folder: Path, bits: int, *options: str) -> Path:
    """A static executable of gcc, without a script of the linker's or any note of ours."""
    source, path = folder / "program.c", folder / "program"
    source.write_text(PROGRAM)
    command = ["gcc", f"-m{bits}", "-O1", "-ffreestanding", "-nostdlib", "-fno-stack-protector", "-fcf-protection=none"]
    subprocess.run([*command, "-mno-sse", *options, "-o", path, source], check=True)
    return path


WAYS = {
    "static": ["-static", "-no-pie"],
    "low": ["-static", "-no-pie", "-Wl,-Ttext-segment=0x10000"],
    "debugging": ["-static", "-no-pie", "-g"],
    "position-independent": ["-static-pie", "-fpie"],
    "linker's notes": ["-static", "-no-pie", "-Wl,--build-id"],
}


@pytest.mark.parametrize("board", [True, False])
@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("way", WAYS)
def test_a_static_executable_of_a_linker_runs(tmp_path: Path, way: str, bits: int, board: bool) -> None:
    machine = Machine("256M", board=board)
    assert machine.load(link(tmp_path, bits, *WAYS[way])).startswith(f"ELF, {bits}-bit entry at ")
    assert machine.run().kind is StopKind.HALTED
    assert machine.cpu.eax == 1234 + bits // 8 * 10000


def test_without_a_board_an_executable_lies_anywhere_in_memory() -> None:
    image = images.elf_image(bits=32, loads=[Load(0xA0000, b"\x40\xf4")], entry=0xA0000)
    for at, memory in ((0xA0000, "1M"), (0xD000_0000, "5G")):
        image = images.elf_image(bits=32, loads=[Load(at, b"\x40\xf4", memsz=0x1000)], entry=at)
        machine = Machine(memory, board=False)
        machine.load(image)
        assert machine.run().kind is StopKind.HALTED
        assert (machine.cpu.rip, machine.cpu.rax) == (at + 2, 1)
        with pytest.raises(ImageError, match="outside the guest's RAM"):
            Machine(memory).load(image)


def test_an_executable_for_addresses_above_is_entered_where_it_was_loaded() -> None:
    load = Load(2 * MiB, vaddr=0xFFFFFFFF80200000)
    for bits, vaddr in ((32, 0xC0200000), (64, 0xFFFFFFFF80200000)):
        load = Load(2 * MiB, images.HALT * 2, vaddr=vaddr)
        prepared = prepare(images.elf_image(bits=bits, loads=[load], entry=vaddr + 3), memory_bytes=16 * MiB)
        assert prepared.cpu.registers["rip"] == 2 * MiB + 3  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("image", "options", "problem"),
    [
        (images.elf_image(bits=32, loads=[Load(MiB)], entry=MiB, type=1), {}, "type 0x1 is no executable"),
        (images.elf_image(bits=64, loads=[Load(MiB)], entry=MiB, type=4), {}, "type 0x4 is no executable"),
        (images.elf_image(bits=32, loads=[Load(MiB)], entry=2 * MiB), {}, "entry point 0x200000 is in no loaded"),
        (images.elf_image(bits=32, loads=[Load(15 * MiB, memsz=2 * MiB)], entry=15 * MiB), {}, "outside the guest's RAM"),
        (images.elf_image(bits=32, loads=[Load(MiB)], entry=MiB), {"command_line": "x"}, "no initrd, modules or command"),
        (images.elf_image(bits=32, loads=[Load(MiB)], entry=MiB), {"modules": [b"x"]}, "no initrd, modules or command"),
    ],
)  # fmt: skip
def test_a_bad_executable_is_refused_with_what_is_wrong(image: bytes, options: dict[str, object], problem: str) -> None:
    with pytest.raises(ImageError, match=problem) as raised:
        prepare(image, memory_bytes=16 * MiB, name="bad.elf", **options)  # type: ignore[arg-type]
    assert str(raised.value).startswith("bad.elf: ")


def test_an_executable_that_wants_a_dynamic_linker_is_refused(tmp_path: Path) -> None:
    path = link(tmp_path, 64, "-pie", "-fpie", "-Wl,--dynamic-linker=/lib/ld.so", "-Wl,-E")
    with pytest.raises(ImageError, match="dynamic linker"):
        prepare(path, memory_bytes=16 * MiB)
