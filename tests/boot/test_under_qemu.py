"""Guests that hvmx prepares start on another machine too, and see there what the loader told them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from guests import guest

from hvmx import Machine

from .guest_memory import prepared, prepared_pv
from .images import MiB, compile_guest
from .qemu import output_of, serial_output

MEMORY = 128 * MiB
COMMAND_LINE = "earlyprintk=serial,ttyS0,115200 console=ttyS0 acpi=off pci=off noapic nolapic nokaslr"
#: Either accelerator: what is under test is the state at the guest's first instruction.
PC = ["-machine", "pc,accel=tcg", "-cpu", "qemu64"]


def linux_log(machine_of: str, tmp_path: Path, *, decompress: bool = True, vmlinux: bool = False) -> str:
    kernel: object = guest(machine_of)
    if vmlinux:
        kernel = prepared_pv(kernel, memory_bytes=MEMORY).elf
    machine = prepared(
        kernel, memory_bytes=MEMORY, command_line=COMMAND_LINE, initrd=bytes(0x1800), decompress=decompress
    )
    return serial_output(machine, tmp_path, memory_bytes=MEMORY, until="Memory: ", options=PC)


@pytest.mark.parametrize("decompress", [True, False], ids=["decompressed", "as it is"])
@pytest.mark.parametrize("kernel", ["linux-686", "linux-cloud-amd64"])
def test_linux_sees_the_memory_the_command_line_and_the_initrd(
    kernel: str, decompress: bool, tmp_path: Path
) -> None:
    log = linux_log(kernel, tmp_path, decompress=decompress)
    assert "BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable" in log
    assert "BIOS-e820: [mem 0x000000000009fc00-0x000000000009ffff] reserved" in log
    assert "BIOS-e820: [mem 0x00000000000f0000-0x00000000000fffff] reserved" in log
    assert "BIOS-e820: [mem 0x0000000000100000-0x0000000007ffffff] usable" in log
    assert f"Kernel command line: {COMMAND_LINE}" in log
    assert "RAMDISK: [mem 0x07ffe000-0x07ff" in log


def test_linux_boots_through_its_pvh_entry(tmp_path: Path) -> None:
    log = linux_log("linux-cloud-amd64", tmp_path, vmlinux=True)
    assert "[mem 0x0000000000100000-0x0000000007ffffff] usable" in log
    assert f"Kernel command line: {COMMAND_LINE}" in log
    assert "RAMDISK: [mem 0x07ffe000-0x07ff" in log


#: Writes to the serial port: the low byte of EAX, the loader's name, the command line, the first module.
MULTIBOOT_GUEST = """
        .align 4
        .long 0x1badb002, 0, -0x1badb002
        .globl start
start:  movw $0x3f8, %dx
        outb %al, %dx
        movl 64(%ebx), %esi
        call write
        movl 16(%ebx), %esi
        call write
        movl 24(%ebx), %esi
        movl (%esi), %esi
        call write
        hlt
write:  lodsb
        testb %al, %al
        jz 1f
        outb %al, %dx
        jmp write
1:      ret
"""


def test_a_multiboot_guest_finds_what_the_loader_left_for_it(tmp_path: Path) -> None:
    machine = prepared(
        compile_guest(tmp_path, MULTIBOOT_GUEST, bits=32),
        memory_bytes=MEMORY,
        command_line=" a command line",
        modules=[b" a module\n\0"],
    )
    said = serial_output(machine, tmp_path, memory_bytes=MEMORY, until="module", options=PC)
    assert said == "\x02hvmxguest.elf  a command line a module\n"


#: Writes the command line and the first module's string to the serial port, a line each.
STRINGS_GUEST = """
        .align 4
        .long 0x1badb002, 0, -0x1badb002
        .globl start
start:  movw $0x3f8, %dx
        movl 16(%ebx), %esi
        call write
        movl 24(%ebx), %esi
        movl 8(%esi), %esi
        call write
        cli
        hlt
write:  lodsb
        testb %al, %al
        jz 1f
        outb %al, %dx
        jmp write
1:      movb $10, %al
        outb %al, %dx
        ret
"""


def words(said: str) -> list[list[str]]:
    """By line; QEMU tells a guest where its files lie on the host, too."""
    lines = [line.split() for line in said.splitlines()]
    return [[Path(first).name, *others] for first, *others in lines]


@pytest.mark.parametrize("append", ["", "first second=2"])
def test_the_strings_of_a_multiboot_guest_are_those_that_qemu_gives(tmp_path: Path, append: str) -> None:
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("no qemu-system-x86_64 to ask")
    kernel = compile_guest(tmp_path, STRINGS_GUEST, bits=32)
    module = tmp_path / "a.module"
    module.write_bytes(b"content")
    console = bytearray()
    machine = Machine("16M", serial=console.extend)
    machine.load(kernel, append=append, modules=[module])
    machine.run()
    options = ["-m", "16M", "-nodefaults", "-display", "none", "-serial", "stdio", "-append", append]
    command = ["qemu-system-x86_64", *PC, *options, "-kernel", kernel, "-initrd", module]
    said = output_of(command, "a.module")
    assert words(console.decode()) == words(said) == [[kernel.name, *append.split()], ["a.module"]]


def test_a_name_with_spaces_is_one_word_of_a_multiboot_command_line(tmp_path: Path) -> None:
    kernel = compile_guest(tmp_path, STRINGS_GUEST, bits=32).rename(tmp_path / "my kernel")
    console = bytearray()
    machine = Machine("16M", serial=console.extend)
    machine.load(kernel, append="x=1", modules=[b""])
    machine.run()
    assert console.decode().splitlines()[0] == "my_kernel x=1"
