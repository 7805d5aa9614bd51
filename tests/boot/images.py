"""Small images of every format, written octet by octet, so that a test can also make each of them wrong."""

from __future__ import annotations

import lzma
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

MiB = 1 << 20
HALT = b"\xf4\xeb\xfd"  # hlt; jmp to it
PAYLOAD_OFFSET = 0x40


@dataclass(frozen=True)
class Load:
    """A PT_LOAD segment to write; the fields are those of the program header."""

    paddr: int
    data: bytes = HALT
    memsz: int | None = None
    vaddr: int | None = None


def elf_image(
    *,
    bits: int,
    loads: list[Load],
    entry: int,
    notes: bytes = b"",
    first: bytes = b"",
    machine: int | None = None,
    type: int = 2,
) -> bytes:
    """An executable of ``loads`` and a PT_NOTE of ``notes``; ``first`` follows the program headers."""
    header, program = (52, 32) if bits == 32 else (64, 56)
    contents = [load.data for load in loads] + ([notes] if notes else [])
    position = header + program * len(contents) + len(first)
    headers = bytearray()
    for index, data in enumerate(contents):
        load = loads[index] if index < len(loads) else Load(0, data)
        kind, memsz = (1 if index < len(loads) else 4), len(data) if load.memsz is None else load.memsz
        vaddr = load.paddr if load.vaddr is None else load.vaddr
        if bits == 32:
            headers += struct.pack("<8I", kind, position, vaddr, load.paddr, len(data), memsz, 7, 4)
        else:
            headers += struct.pack("<2I6Q", kind, 7, position, vaddr, load.paddr, len(data), memsz, 4)
        position += len(data)
    machine = machine if machine is not None else (3 if bits == 32 else 62)
    ident = b"\x7fELF" + bytes([bits // 32, 1, 1]) + bytes(9)
    words = "III" if bits == 32 else "QQQ"
    tables = (header, 0, 0, header, program, len(contents), 0, 0, 0)
    rest = struct.pack(f"<HHI{words}IHHHHHH", type, machine, 1, entry, *tables)
    return ident + rest + headers + first + b"".join(contents)


def note(kind: int, value: bytes, name: bytes = b"Xen\0") -> bytes:
    """One ELF note, padded to 4 bytes."""
    padded = value + bytes(-len(value) % 4)
    return struct.pack("<III", len(name), len(value), kind) + name + padded


def multiboot_header(flags: int = 0, *addresses: int) -> bytes:
    """A Multiboot header with its checksum, followed by its address fields."""
    magic = 0x1BADB002
    return struct.pack(f"<{3 + len(addresses)}I", magic, flags, -(magic + flags) & 0xFFFFFFFF, *addresses)


def multiboot_elf(flags: int = 3, *, bits: int = 32) -> bytes:
    """A Multiboot ELF file with its code at 1 MiB and 0x1000 bytes of BSS behind."""
    load = Load(MiB, HALT, memsz=0x1000)
    return elf_image(bits=bits, loads=[load], entry=MiB, first=multiboot_header(flags))


def pvh_elf(*, bits: int = 64, entry: int = MiB) -> bytes:
    """An ELF file with a PVH note and its code at 1 MiB."""
    value = struct.pack("<I" if bits == 32 else "<Q", entry)
    return elf_image(bits=bits, loads=[Load(MiB, HALT, memsz=0x1000)], entry=MiB, notes=note(18, value))


VIRT_BASE = 0xFFFFFFFF80000000


def xen_notes(**changes: bytes | None) -> bytes:
    """The notes of a small 64-bit PV kernel; ``changes`` replace values by name, None leaves the note out."""
    values: dict[str, tuple[int, bytes]] = {
        "entry": (1, struct.pack("<Q", VIRT_BASE + MiB)),
        "hypercall_page": (2, struct.pack("<Q", VIRT_BASE + MiB + 0x1000)),
        "virt_base": (3, struct.pack("<Q", VIRT_BASE)),
        "xen_version": (5, b"xen-3.0\0"),
        "guest_os": (6, b"test\0"),
        "loader": (8, b"generic\0"),
        "pae_mode": (9, b"yes\0"),
        "features": (10, b"!writable_page_tables|pae_pgdir_above_4gb\0"),
        "bsd_symtab": (11, b"yes\0"),
        "l1_mfn_valid": (13, struct.pack("<QQ", 1, 1)),
        "supported_features": (17, struct.pack("<I", 0x801)),
    }
    octets = b""
    for name, (kind, value) in values.items():
        value_or_none = changes.get(name, value)
        if value_or_none is not None:
            octets += note(kind, value_or_none)
    return octets


def xen_elf(**changes: bytes | None) -> bytes:
    """A 64-bit PV kernel at pseudo-physical 1 MiB."""
    load = Load(MiB, HALT, memsz=0x2000, vaddr=VIRT_BASE + MiB)
    return elf_image(bits=64, loads=[load], entry=MiB, notes=xen_notes(**changes))


def bzimage(
    payload: bytes, *, xloadflags: int = 0, version: int = 0x20F, **fields: tuple[int, int, int]
) -> bytes:
    """A bzImage with one setup sector whose payload is ``payload``; ``fields`` are (offset, size, value)."""
    image = bytearray(2 * 512 + PAYLOAD_OFFSET) + payload
    written = {
        "setup_sects": (0x1F1, 1, 1),
        "boot_flag": (0x1FE, 2, 0xAA55),
        "jump": (0x200, 2, 0x6AEB),
        "header": (0x202, 4, int.from_bytes(b"HdrS", "little")),
        "version": (0x206, 2, version),
        "loadflags": (0x211, 1, 1),
        "code32_start": (0x214, 4, MiB),
        "initrd_addr_max": (0x22C, 4, 0x7FFFFFFF),
        "kernel_alignment": (0x230, 4, 0x200000),
        "relocatable": (0x234, 1, 1),
        "xloadflags": (0x236, 2, xloadflags),
        "cmdline_size": (0x238, 4, 255),
        "payload_offset": (0x248, 4, PAYLOAD_OFFSET if payload else 0),
        "payload_length": (0x24C, 4, len(payload)),
        "pref_address": (0x258, 8, 2 * MiB),
        "init_size": (0x260, 4, 0x10000),
    } | fields
    for offset, size, value in written.values():
        image[offset : offset + size] = value.to_bytes(size, "little")
    return bytes(image)


def sized(compressed: bytes, original: bytes) -> bytes:
    """``compressed`` with the size of ``original`` behind it, as the kernel's build appends it."""
    return compressed + struct.pack("<I", len(original))


def vmlinux(*, bits: int = 32) -> bytes:
    """What a bzImage holds: an ELF file linked to high addresses, loaded at 2 MiB, entered physically."""
    high = 0xC0000000 if bits == 32 else VIRT_BASE
    load = Load(2 * MiB, HALT, memsz=0x3000, vaddr=high + 2 * MiB)
    return elf_image(bits=bits, loads=[load], entry=2 * MiB)


def xz_bzimage(*, bits: int = 32) -> bytes:
    """A bzImage around ``vmlinux``, compressed with xz."""
    kernel = vmlinux(bits=bits)
    return bzimage(sized(lzma.compress(kernel), kernel), xloadflags=1 if bits == 64 else 0)


def compile_guest(directory: Path, source: str, *, bits: int) -> Path:
    """``source`` (assembler for the C preprocessor), linked at 2 MiB; skips the test where gcc cannot."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to build the guest with")
    (directory / "guest.S").write_text(source)
    output = directory / "guest.elf"
    command = ["gcc", f"-m{bits}", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-e,start"]
    command += ["-Wl,-Ttext-segment=0x200000", "-Wl,-z,max-page-size=0x1000", "-o", str(output)]
    command += [str(directory / "guest.S")]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return output
