"""Multiboot 1 (Multiboot Specification 0.6.96): ELF files, and any file whose header gives load addresses."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from . import cpu, elf
from .layout import HIGH_MEMORY, PAGE, Placement
from .prepared import ImageError, Module, Prepared

HEADER_MAGIC, LOADER_MAGIC = 0x1BADB002, 0x2BADB002
SEARCH_BYTES = 8192
# Multiboot2 Specification 2.0, 3.1: such a header is only recognised, as nothing here enters by it.
HEADER_MAGIC_2, SEARCH_BYTES_2 = 0xE85250D6, 32768
LOADER_NAME = "hvmx"
UNNAMED = "image"
"""The name of an image that does not come from a file."""

# The header's flags (3.1.2). A loader must refuse flags in bits 0 to 15 that it does not support; the first two
# (page-aligned modules, memory information) are always provided.
ALWAYS_HONOURED, MUST_HONOUR, ADDRESS_FIELDS = 0x3, 0xFFFF, 1 << 16

# The flags of the information structure (3.3).
INFO_MEMORY, INFO_COMMAND_LINE, INFO_MODULES, INFO_MEMORY_MAP, INFO_LOADER_NAME = (
    1 << 0,
    1 << 2,
    1 << 3,
    1 << 6,
    1 << 9,
)
INFO_BYTES = 120


class Header(NamedTuple):
    """The Multiboot header at ``offset`` in the file; the addresses count with ``ADDRESS_FIELDS`` only."""

    offset: int
    flags: int
    header_addr: int
    load_addr: int
    load_end_addr: int
    bss_end_addr: int
    entry_addr: int


def find_header(image: memoryview) -> Header | None:
    """The first header of ``image`` that is aligned, whole in the first 8192 bytes, and sums to 0 (3.1)."""
    start = bytes(image[:SEARCH_BYTES])
    magic = HEADER_MAGIC.to_bytes(4, "little")
    offset = start.find(magic)
    while offset >= 0:
        if offset % 4 == 0 and offset + 12 <= len(start):
            flags, checksum = struct.unpack_from("<II", start, offset + 4)
            size = 32 if flags & ADDRESS_FIELDS else 12
            if (HEADER_MAGIC + flags + checksum) & 0xFFFFFFFF == 0 and offset + size <= len(start):
                addresses = struct.unpack_from("<5I", start, offset + 12) if size == 32 else (0,) * 5
                return Header(offset, flags, *addresses)
        offset = start.find(magic, offset + 1)
    return None


def find_header_2(image: memoryview) -> int | None:
    """The offset of the first Multiboot 2 header of ``image`` (3.1.1 of that specification)."""
    start = bytes(image[:SEARCH_BYTES_2])
    magic = HEADER_MAGIC_2.to_bytes(4, "little")
    offset = start.find(magic)
    while offset >= 0:
        words = start[offset : offset + 16]
        if offset % 8 == 0 and len(words) == 16 and sum(struct.unpack("<4I", words)) & 0xFFFFFFFF == 0:
            return offset
        offset = start.find(magic, offset + 1)
    return None


def prepare_multiboot(
    image: memoryview,
    header: Header,
    placement: Placement,
    *,
    name: str,
    command_line: str,
    modules: Sequence[Module],
) -> Prepared:
    """Loads ``image``, whose header is ``header``, and enters it in 32-bit protected mode (3.2)."""
    refused = header.flags & MUST_HONOUR & ~ALWAYS_HONOURED
    if refused:
        raise placement.error(f"its Multiboot header asks for features {refused:#x}, which are not provided")
    if header.flags & ADDRESS_FIELDS:
        part = addressed_part(image, header, placement.name)
        contents = image[part.offset : part.offset + part.size]
        placement.place(header.load_addr, contents, "the Multiboot image", zero_fill=part.zero_fill)
        entry = header.entry_addr
    else:
        executable = elf.parse(image, placement.name)
        executable.place(placement)
        entry = executable.physical_entry()
        if entry > 0xFFFFFFFF:
            raise placement.error(
                f"the entry point {entry:#x} is above 4 GiB, Multiboot enters in 32-bit mode"
            )
    placement.add_bios_data()
    info = _add_information(placement, _with_name(name, command_line), modules)
    state = cpu.protected_mode(
        rip=entry,
        gdt=placement.add_gdt(long=False),
        rsp=placement.add_stack(),
        registers={"rax": LOADER_MAGIC, "rbx": info},
    )
    return Prepared("multiboot", f"Multiboot image, 32-bit entry at {entry:#x}", state, placement.segments)


class AddressedPart(NamedTuple):
    """The part of the file that a header with addresses loads, and the zeros behind it."""

    offset: int
    size: int
    zero_fill: int


def addressed_part(image: memoryview, header: Header, name: str) -> AddressedPart:
    """What ``header`` loads by its own addresses (3.1.3)."""
    start = header.offset - (header.header_addr - header.load_addr)
    if header.load_addr > header.header_addr or start < 0:
        raise ImageError(
            f"{name}: its Multiboot header at offset {header.offset:#x} claims address {header.header_addr:#x} "
            f"in an image loaded at {header.load_addr:#x}"
        )
    size = header.load_end_addr - header.load_addr if header.load_end_addr else len(image) - start
    if size <= 0 or start + size > len(image):
        raise ImageError(
            f"{name}: its Multiboot header loads {size:#x} bytes from offset {start:#x} of a file of {len(image):#x}"
        )
    end = header.load_addr + size
    zero_fill = header.bss_end_addr - end if header.bss_end_addr else 0
    if zero_fill < 0:
        raise ImageError(
            f"{name}: its Multiboot header ends the BSS at {header.bss_end_addr:#x}, before it starts at {end:#x}"
        )
    if not header.load_addr <= header.entry_addr < end:
        raise ImageError(
            f"{name}: the entry point {header.entry_addr:#x} is outside {header.load_addr:#x} to {end:#x}"
        )
    return AddressedPart(start, size, zero_fill)


def _with_name(name: str, command_line: str) -> str:
    """A command line as from GRUB Legacy and QEMU: kernels skip its first word, which is their name."""
    word = "_".join(name.split()) or UNNAMED
    return f"{word} {command_line}" if command_line else word


def _add_information(placement: Placement, command_line: str, modules: Sequence[Module]) -> int:
    """Places the modules and the information structure (3.3) and returns the latter's address."""
    entries = []
    for module in modules:
        physical = placement.add(
            module.data, f"module {module.name}", align=PAGE, start=HIGH_MEMORY, end=placement.high_memory_end
        )
        name = placement.add_string(module.name, "a module's name")
        entries.append(struct.pack("<4I", physical, physical + len(module.data), name, 0))
    module_list = placement.add(b"".join(entries), "the module list")
    regions = b"".join(struct.pack("<IQQI", 20, *region) for region in placement.regions)
    memory_map = placement.add(regions, "the memory map")

    flags = INFO_MEMORY | INFO_COMMAND_LINE | INFO_MODULES | INFO_MEMORY_MAP | INFO_LOADER_NAME
    info = bytearray(INFO_BYTES)
    upper = (placement.high_memory_end - HIGH_MEMORY) >> 10
    command_line_address = placement.add_string(command_line, "the command line")
    struct.pack_into("<3I", info, 0, flags, placement.low_memory_end >> 10, upper)
    struct.pack_into("<3I", info, 16, command_line_address, len(modules), module_list)
    struct.pack_into("<2I", info, 44, len(regions), memory_map)
    struct.pack_into("<I", info, 64, placement.add_string(LOADER_NAME, "the loader's name"))
    return placement.add(info, "the Multiboot information")
