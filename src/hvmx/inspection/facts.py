"""What an image says of itself.

Each part is read by itself, so that one that is damaged hides no other: what is wrong with it is among the problems.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

from hvmx.boot import ImageError, Source, elf, linux, multiboot, payload, pvh, rom, source_name
from hvmx.boot.layout import FOUR_GIB, HIGH_MEMORY
from hvmx.boot.notes import XenFeature, XenNote, XenNotes
from hvmx.boot.prepare import read_image, unpack

_Read = TypeVar("_Read")

_XEN = b"Xen"
_XEN_ADDRESSES = {XenNote.ENTRY: "Xen PV", XenNote.HYPERCALL_PAGE: "Xen hypercall page", XenNote.PHYS32_ENTRY: "PVH"}


class Payload(NamedTuple):
    """The compressed kernel in a bzImage."""

    offset: int
    size: int
    compression: str | None
    """None where it is unknown here."""
    first: bytes


class EntryPoint(NamedTuple):
    """An address at which the image can be entered, or where the hypervisor puts its calls."""

    what: str
    address: int


class Note(NamedTuple):
    """An entry of a PT_NOTE segment; ``value`` is octets where no reader knows, or can read, what it is."""

    owner: str
    name: str
    value: int | str | list[tuple[int, int]] | bytes


class Segment(NamedTuple):
    """What is loaded: from where in the file (or in the payload), and to where."""

    offset: int
    file_bytes: int
    virtual: int | None
    physical: int
    memory_bytes: int


@dataclass(frozen=True)
class ImageFacts:
    """An image, read but not placed."""

    name: str
    memory_bytes: int
    """Of the machine that it is to run in; more is not unpacked."""
    file: memoryview
    octets: memoryview
    """``file``, or what is in it where gzip has packed it as a whole."""
    linux: linux.SetupHeader | None
    payload: Payload | None
    multiboot: multiboot.Header | None
    multiboot_2: int | None
    """The offset of a Multiboot 2 header."""
    executable: elf.Elf | None
    """The ELF file that it is, or that its payload is."""
    executable_problem: str | None
    """Why there is none, where there should be."""
    notes: list[Note]
    xen: XenNotes | None
    problems: list[str]

    @property
    def is_packed(self) -> bool:
        """Whether gzip has packed it as a whole."""
        return self.octets is not self.file

    @property
    def is_rom(self) -> bool:
        """Whether it looks like firmware, and like nothing else."""
        return rom.is_firmware(self.file) and not self.is_recognised

    @property
    def is_recognised(self) -> bool:
        """Whether something in the image says what it is."""
        return bool(self.linux or self.multiboot or self.multiboot_2 is not None or self.octets[:4] == elf.MAGIC)

    @property
    def formats(self) -> list[str]:
        """What was found, the outermost first."""
        found = [f"gzip, with {len(self.octets):#x} bytes in it"] if self.is_packed else []
        if self.linux is not None:
            high = self.linux.loadflags & linux.LoadFlag.LOADED_HIGH
            found.append(f"Linux {'bzImage' if high else 'zImage'}, boot protocol {self.linux.protocol}")
        if self.payload is not None:
            found.append(f"{self.payload.compression or 'unknown'} payload of {self.payload.size:#x} bytes")
        if self.executable is not None:
            machine = "x86-64" if self.executable.machine == elf.EM_X86_64 else "i386"
            inside = f"in the payload, {len(self.executable.image):#x} bytes" if self.payload else ""
            found.append(f"ELF{self.executable.bits} for {machine}{inside and ', '}{inside}")
        if self.multiboot is not None:
            found.append(f"Multiboot 1 header at {self.multiboot.offset:#x}, flags {self.multiboot.flags:#x}")
        if self.multiboot_2 is not None:
            found.append(f"Multiboot 2 header at {self.multiboot_2:#x}")
        if self.xen is not None and self.xen.types:
            found.append("Xen ELF notes")
            if XenNote.PHYS32_ENTRY in self.xen.types:
                found.append("PVH entry note")
        if self.is_rom:
            found.append("firmware ROM (a jump at the reset vector)")
        return found

    @property
    def entries(self) -> list[EntryPoint]:
        """Where it can be entered, by each of its formats."""
        found = []
        if self.linux is not None:
            found.append(EntryPoint("Linux, 32-bit", self.linux.code32_start))
            if self.linux.bits == 64:
                found.append(EntryPoint("Linux, 64-bit", HIGH_MEMORY + linux.ENTRY_64))
        if self.multiboot is not None and self.multiboot.flags & multiboot.ADDRESS_FIELDS:
            found.append(EntryPoint("Multiboot", self.multiboot.entry_addr))
        if self.executable is not None:
            found.append(EntryPoint("ELF", self.executable.entry))
        for kind, what in _XEN_ADDRESSES.items():
            if isinstance(address := self._xen_values.get(kind.name), int):
                found.append(EntryPoint(what, address))
        if self.is_rom:
            found.append(EntryPoint("reset vector", FOUR_GIB - rom.RESET_VECTOR))
        return found

    @property
    def segments(self) -> list[Segment]:
        """What is loaded of it."""
        if self.executable is not None:
            return [
                Segment(load.offset, load.filesz, load.vaddr, load.paddr, load.memsz) for load in self.executable.loads
            ]
        if self.linux is not None and self.linux.setup_bytes < len(self.octets):
            size = len(self.octets) - self.linux.setup_bytes
            return [Segment(self.linux.setup_bytes, size, None, HIGH_MEMORY, size)]
        return [] if self.multiboot_segment is None else [self.multiboot_segment]

    @property
    def multiboot_segment(self) -> Segment | None:
        """What a Multiboot header with addresses loads, whatever else the image is."""
        if self.multiboot is None or not self.multiboot.flags & multiboot.ADDRESS_FIELDS:
            return None
        try:
            part = multiboot.addressed_part(self.octets, self.multiboot, self.name)
        except ImageError:  # which is why it cannot run as Multiboot
            return None
        return Segment(part.offset, part.size, None, self.multiboot.load_addr, part.size + part.zero_fill)

    @property
    def supported_features(self) -> list[str] | None:
        """The features of the numeric note, by Xen's names; None without the note."""
        value = self._xen_values.get(XenNote.SUPPORTED_FEATURES.name)
        if not isinstance(value, int):
            return None
        bits = [bit for bit in range(value.bit_length()) if value >> bit & 1]
        return [XenFeature(bit).name if bit in set(XenFeature) else f"bit {bit}" for bit in bits]

    @property
    def features(self) -> tuple[list[str], list[str]] | None:
        """The features that the kernel requires by name, and those it can do with; None without the note."""
        if self.xen is None or XenNote.FEATURES not in self.xen.types:
            return None
        try:
            required, optional = self.xen.features()
        except ImageError:  # among the problems, by its note
            return None
        return sorted(required), sorted(optional)

    @property
    def _xen_values(self) -> dict[str, object]:
        return {note.name: note.value for note in self.notes if note.owner == _XEN.decode()}

    def has_pvh_note(self) -> bool:
        """Whether its ELF file has a PVH note; ``ImageError`` where its notes are damaged."""
        return self.executable is not None and pvh.entry_point(self.executable) is not None


class _Reader:
    """Reads parts, and gathers what is wrong with them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.problems: list[str] = []

    def part(self, read: Callable[[], _Read]) -> _Read | None:
        """What ``read`` gives, or None and one problem more."""
        return self.part_or_problem(read)[0]

    def part_or_problem(self, read: Callable[[], _Read]) -> tuple[_Read | None, str | None]:
        """The same, with what is wrong."""
        try:
            return read(), None
        except ImageError as problem:
            text = as_sentence(problem, self._name)
            if text not in self.problems:
                self.problems.append(text)
            return None, text


def as_sentence(problem: ImageError, name: str) -> str:
    """The message of ``problem`` without the name of the image."""
    text = str(problem).removeprefix(name).removeprefix(":").strip()
    if text.startswith("(its "):
        text = text[1:].replace("):", ":", 1)
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."


def read_facts(image: Source, memory_bytes: int) -> ImageFacts:
    """What is to be found in ``image``; ``ImageError`` where it cannot be read, is empty, or is packed and damaged."""
    name = source_name(image)
    file = read_image(image, name)
    octets = unpack(file, memory_bytes, name)
    reader = _Reader(name)
    header = reader.part(lambda: linux.parse_header(octets, name)) if linux.is_linux(octets) else None
    found = None if header is None else reader.part(lambda: _payload(octets, header, name))
    executable, problem = None, None
    if header is not None:
        executable, problem = reader.part_or_problem(lambda: _inside(octets, header, name, memory_bytes))
    elif octets[:4] == elf.MAGIC:
        executable, problem = reader.part_or_problem(lambda: elf.parse(octets, name))
    xen = None if executable is None else reader.part(lambda: XenNotes(executable))
    return ImageFacts(
        name=name,
        memory_bytes=memory_bytes,
        file=file,
        octets=octets,
        linux=header,
        payload=found,
        multiboot=multiboot.find_header(octets),
        multiboot_2=multiboot.find_header_2(octets),
        executable=executable,
        executable_problem=problem,
        notes=[] if executable is None or xen is None else _notes(executable, xen, reader),
        xen=xen,
        problems=reader.problems,
    )


def _inside(octets: memoryview, header: linux.SetupHeader, name: str, memory_bytes: int) -> elf.Elf | None:
    linux.check_bootable(octets, header, name)
    return linux.extract(octets, header, name, memory_bytes)


def _payload(octets: memoryview, header: linux.SetupHeader, name: str) -> Payload | None:
    found = linux.find_payload(octets, header, name)
    if found is None:
        return None
    offset = header.setup_bytes + header.payload_offset
    return Payload(offset, len(found), payload.compression(found), bytes(found[:8]))


def _notes(executable: elf.Elf, xen: XenNotes, reader: _Reader) -> list[Note]:
    """Xen's notes by their values, of several of one type the one that counts, and then the others'."""
    notes = []
    for kind in xen.types:
        if kind in set(XenNote):
            note = XenNote(kind)
            value = reader.part(partial(xen.value, note))
            notes.append(Note("Xen", note.name, xen.octets(kind) if value is None else value))
        else:
            notes.append(Note("Xen", f"{kind:#x}", xen.octets(kind)))
    for other in executable.notes():
        if other.name != _XEN:
            notes.append(Note(other.name.decode("ascii", "backslashreplace"), f"{other.type:#x}", other.value))
    return notes
