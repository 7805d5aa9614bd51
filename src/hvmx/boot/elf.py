"""ELF executables (System V gABI, ch. 4 and 5): the parts that a boot loader needs, from untrusted bytes.

Every offset and count is checked against the file before it is used, and the work is linear in the size of the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from .layout import Placement
from .prepared import ImageError

MAGIC = b"\x7fELF"
EM_386, EM_X86_64 = 3, 62
ET_EXEC, ET_DYN = 2, 3
PT_LOAD, PT_INTERP, PT_NOTE = 1, 3, 4
PN_XNUM = 0xFFFF

#: No kernel has more than this in its PT_NOTE segments: it bounds the work for a file with overlapping notes.
_NOTE_BYTES = 1 << 20

_CLASS_BITS = {1: 32, 2: 64}
# The header from e_type on, and a program header, whose fields are in a different order in the two classes.
_HEADER = {32: struct.Struct("<HHIIIIIHHHHHH"), 64: struct.Struct("<HHIQQQIHHHHHH")}
_PROGRAM_HEADER = {32: struct.Struct("<IIIIIIII"), 64: struct.Struct("<IIQQQQQQ")}


class ProgramHeader(NamedTuple):
    """One program header, its fields by the gABI's names without ``p_``."""

    type: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int


class Note(NamedTuple):
    """One entry of a PT_NOTE segment."""

    name: bytes
    type: int
    value: bytes


@dataclass(frozen=True)
class Elf:
    """A parsed executable; ``bits`` is its class, 32 or 64."""

    image: memoryview
    name: str
    bits: int
    type: int
    machine: int
    entry: int
    headers: list[ProgramHeader]

    @property
    def loads(self) -> list[ProgramHeader]:
        """The PT_LOAD segments that are not empty in memory."""
        return [header for header in self.headers if header.type == PT_LOAD and header.memsz]

    def contents(self, header: ProgramHeader) -> memoryview:
        """The part of the file that ``header`` describes."""
        return self.image[header.offset : header.offset + header.filesz]

    def place(self, placement: Placement, *, paddr_offset: int = 0) -> None:
        """Places every PT_LOAD segment at its physical address less ``paddr_offset``."""
        for header in self.loads:
            what = f"the segment for {header.vaddr:#x}"
            if header.paddr < paddr_offset:
                raise placement.error(
                    f"{what} has physical address {header.paddr:#x}, below {paddr_offset:#x}"
                )
            zero_fill = header.memsz - header.filesz
            placement.place(header.paddr - paddr_offset, self.contents(header), what, zero_fill=zero_fill)

    def physical_entry(self) -> int:
        """The entry point as a physical address inside a loaded segment.

        Kernels linked to high virtual addresses give a virtual entry; it is translated by the segment that
        holds it.
        """
        for header in self.loads:
            if header.vaddr <= self.entry < header.vaddr + header.memsz:
                return self.entry - header.vaddr + header.paddr
        return self.check_physical(self.entry, "the entry point")

    def check_physical(self, address: int, what: str) -> int:
        """``address`` again, if a loaded segment holds it."""
        if not any(header.paddr <= address < header.paddr + header.memsz for header in self.loads):
            raise ImageError(f"{self.name}: {what} {address:#x} is in no loaded segment")
        return address

    def notes(self) -> list[Note]:
        """The entries of all PT_NOTE segments, in order."""
        segments = [header for header in self.headers if header.type == PT_NOTE]
        size = sum(header.filesz for header in segments)
        if size > _NOTE_BYTES:
            raise ImageError(f"{self.name}: {size:#x} bytes of ELF notes, at most {_NOTE_BYTES:#x} are read")
        return [note for header in segments for note in _notes(self, header)]


def parse(image: memoryview, name: str) -> Elf:
    """Reads an x86 executable's header and program headers; raises ``ImageError`` for anything else."""

    def wrong(problem: str) -> ImageError:
        return ImageError(f"{name}: {problem}")

    bits = _CLASS_BITS.get(image[4]) if len(image) > 5 else None
    if bits is None or image[5] != 1:
        raise wrong("not a little-endian 32- or 64-bit ELF file")
    layout, program_header = _HEADER[bits], _PROGRAM_HEADER[bits]
    if len(image) < 16 + layout.size:
        raise wrong(f"an ELF header of {16 + layout.size:#x} bytes is cut off at {len(image):#x}")
    type_, machine, _version, entry, phoff, _shoff, _flags, _ehsize, phentsize, phnum, *_sections = (
        layout.unpack_from(image, 16)
    )
    if machine not in (EM_386, EM_X86_64):
        raise wrong(f"an ELF file for machine {machine:#x}, not for x86 ({EM_386:#x} or {EM_X86_64:#x})")
    if phnum == PN_XNUM:
        raise wrong(f"an ELF file with {PN_XNUM:#x} or more program headers is no kernel")
    if phnum and phentsize != program_header.size:
        raise wrong(f"ELF program headers of {phentsize:#x} bytes, not {program_header.size:#x}")
    end = phoff + phnum * program_header.size
    if end > len(image):
        raise wrong(
            f"ELF program headers at {phoff:#x} to {end:#x} lie behind the end of the file ({len(image):#x})"
        )

    headers = []
    for fields in program_header.iter_unpack(image[phoff:end]):
        if bits == 32:
            kind, offset, vaddr, paddr, filesz, memsz, _flags, align = fields
        else:
            kind, _flags, offset, vaddr, paddr, filesz, memsz, align = fields
        header = ProgramHeader(kind, offset, vaddr, paddr, filesz, memsz, align)
        if kind in (PT_LOAD, PT_NOTE) and offset + filesz > len(image):
            raise wrong(
                f"segment at {offset:#x} to {offset + filesz:#x} lies behind the file's end ({len(image):#x})"
            )
        if kind == PT_LOAD and filesz > memsz:
            raise wrong(
                f"segment for {vaddr:#x} has {filesz:#x} bytes in the file and only {memsz:#x} in memory"
            )
        headers.append(header)
    elf = Elf(image, name, bits, type_, machine, entry, headers)
    if not elf.loads:
        raise wrong("an ELF file with nothing to load")
    return elf


def _notes(elf: Elf, header: ProgramHeader) -> list[Note]:
    contents = elf.contents(header)
    # Name and value are padded to 4 bytes; to 8 only in the segments of GNU properties, which say so.
    align = 8 if header.align == 8 else 4
    notes, position = [], 0
    while position + 12 <= len(contents):
        name_size, value_size, kind = struct.unpack_from("<III", contents, position)
        value = (position + 12 + name_size + align - 1) & -align
        if value + value_size > len(contents):
            where = header.offset + position
            raise ImageError(f"{elf.name}: the ELF note at {where:#x} lies behind the end of its segment")
        name = bytes(contents[position + 12 : position + 12 + name_size]).rstrip(b"\0")
        notes.append(Note(name, kind, bytes(contents[value : value + value_size])))
        position = (value + value_size + align - 1) & -align
    return notes
