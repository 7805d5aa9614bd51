"""The ways in which an image can run: each is tried by the loader that `hvmx run` would take, and nothing runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from hvmx.boot import ImageError, Prepared, Segment, elf, linux, multiboot, pvh, xen
from hvmx.boot.executable import prepare_executable
from hvmx.boot.flat import prepare_flat
from hvmx.boot.layout import Placement, memory_map
from hvmx.boot.rom import prepare_rom
from hvmx.boot.xen import XenImage
from hvmx.hvm.board import EPOCH
from hvmx.machine import Machine
from hvmx.pv import start_of_day

from .facts import ImageFacts, as_sentence

_FLAT_BITS = (16, 32, 64)


class Verdict(Enum):
    """Whether an image can run in some way."""

    YES = "yes"
    IF_TOLD = "if told"
    """Any file can, and nothing in this one says that it is meant to."""
    NO = "no"


@dataclass(frozen=True)
class Way:
    """A way of running an image."""

    name: str
    options: str
    """Those of ``hvmx run`` before the image."""
    verdict: Verdict
    says: str
    """How it is then entered, or why not."""


def ways_to_run(facts: ImageFacts) -> list[Way]:
    """All ways, each with whether the image can run so in a machine of ``facts.memory_bytes``."""
    bare = Verdict.YES if facts.is_rom else Verdict.IF_TOLD
    return [
        _tried(facts, "HVM, bzImage", "", _bzimage),
        _tried(facts, "HVM, bzImage that unpacks itself", "--no-decompress", _bzimage_by_itself),
        _tried(facts, "HVM, Multiboot", "", _multiboot),
        _tried(facts, "HVM, ELF", "", _elf),
        _tried(facts, "HVM, ROM", "--bios", _rom, bare),
        _flat(facts),
        _tried(facts, "PVH", "", _pvh),
        _tried(facts, "PV", "--pv", _pv),
    ]


def _tried(
    facts: ImageFacts,
    name: str,
    options: str,
    load: Callable[[ImageFacts], Prepared | XenImage],
    verdict: Verdict = Verdict.YES,
) -> Way:
    try:
        prepared = load(facts)
    except ImageError as problem:
        return Way(name, options, Verdict.NO, as_sentence(problem, facts.name))
    return Way(name, options, verdict, f"{prepared.description}.")


def _placement(facts: ImageFacts, *, hole: bool = True) -> Placement:
    return Placement(memory_map(facts.memory_bytes, hole=hole), facts.name)


def _setup_header(facts: ImageFacts) -> linux.SetupHeader:
    if linux.is_linux(facts.octets):
        return linux.bootable_header(facts.octets, facts.name)  # or it says what is wrong with it
    raise ImageError(f"it has no Linux setup header, whose magic {linux.HEADER_MAGIC.hex()} would be at 0x202")


def _bzimage(facts: ImageFacts) -> Prepared:
    header = _setup_header(facts)
    if facts.executable_problem is not None:
        raise ImageError(facts.executable_problem)
    return _load_linux(facts, header, facts.executable)


def _bzimage_by_itself(facts: ImageFacts) -> Prepared:
    header = _setup_header(facts)
    if facts.is_packed:
        raise ImageError("gzip has packed the bzImage as a whole, which --no-decompress does not undo")
    return _load_linux(facts, header, None)


def _load_linux(facts: ImageFacts, header: linux.SetupHeader, vmlinux: elf.Elf | None) -> Prepared:
    return linux.prepare_linux(facts.octets, header, vmlinux, _placement(facts), command_line="", initrd=None)


def _multiboot(facts: ImageFacts) -> Prepared:
    if facts.multiboot is None:
        second = ""
        if facts.multiboot_2 is not None:
            second = f"; it has a Multiboot 2 header at {facts.multiboot_2:#x}, and hvmx does not enter by that"
        raise ImageError(f"it has no Multiboot 1 header in its first {multiboot.SEARCH_BYTES:#x} bytes{second}")
    _not_taken_as(facts, "Linux")
    return multiboot.prepare_multiboot(
        facts.octets, facts.multiboot, _placement(facts), name="", command_line="", modules=()
    )


def _not_taken_as(facts: ImageFacts, *formats: str) -> None:
    """ImageError where `hvmx run` takes the image for another format before this one."""
    if "Linux" in formats and linux.is_linux(facts.octets):
        raise ImageError("it has a Linux setup header, so that hvmx run takes it for a bzImage")
    if "Multiboot" in formats and facts.multiboot is not None:
        raise ImageError(
            f"it has a Multiboot header at {facts.multiboot.offset:#x}, by which hvmx run enters before any other way"
        )
    if "PVH" in formats and facts.has_pvh_note():
        raise ImageError("it has a PHYS32_ENTRY note, so that hvmx run enters it as PVH")


def _executable(facts: ImageFacts) -> elf.Elf:
    """The ELF file that the image is, or that its payload is."""
    if facts.executable_problem is not None:
        raise ImageError(facts.executable_problem)
    if facts.executable is not None:
        return facts.executable
    if not linux.is_linux(facts.octets):
        raise ImageError(f"it is no ELF file: it starts with {facts.octets[:8].hex()}, not with {elf.MAGIC.hex()}")
    _setup_header(facts)
    if facts.payload is None:
        raise ImageError("the bzImage does not say where its payload is, which might be an ELF file")
    raise ImageError(
        f"the compression of its payload at {facts.payload.offset:#x} is unknown "
        f"(it starts with {facts.payload.first.hex()}), so that no ELF file is found in it"
    )


def _elf(facts: ImageFacts) -> Prepared:
    _not_taken_as(facts, "Linux", "Multiboot", "PVH")
    return prepare_executable(_executable(facts), _placement(facts))


def _pvh(facts: ImageFacts) -> Prepared:
    executable = _executable(facts)
    entry = pvh.entry_point(executable)
    if entry is None:
        raise ImageError("its ELF file has no PHYS32_ENTRY note (Xen note 0x12), which has the PVH entry point")
    if linux.is_linux(facts.octets):
        raise ImageError(
            f"as a bzImage it is entered by Linux's boot protocol; its payload, which as a file of its own would be "
            f"PVH, has the PVH entry point {entry:#x}"
        )
    _not_taken_as(facts, "Multiboot")
    return pvh.prepare_pvh(executable, _placement(facts), command_line="", modules=())


def _rom(facts: ImageFacts) -> Prepared:
    return prepare_rom(facts.file, _placement(facts), facts.memory_bytes)


def _flat(facts: ImageFacts) -> Way:
    """Any file can be told to be one: in which widths this one can, or why in none."""
    entries, refused = [], ""
    for bits in _FLAT_BITS:
        try:
            prepared = prepare_flat(facts.file, _placement(facts), load_address=None, entry=None, bits=bits)
        except ImageError as problem:
            refused = as_sentence(problem, facts.name)
        else:
            entries.append(f"{bits}-bit entry at {prepared.cpu.registers['rip']:#x}")
    if not entries:
        return Way("HVM, flat binary", "--bits N", Verdict.NO, refused)
    return Way("HVM, flat binary", "--bits N", Verdict.IF_TOLD, f"As any file: {', '.join(entries)}.")


def _pv(facts: ImageFacts) -> XenImage:
    image = xen.prepare_xen(_executable(facts), _placement(facts, hole=False), command_line="", modules=())
    # Whether its start of day fits, and Xen takes the page tables, does not depend on what is in the segments.
    hollow = [Segment(part.physical, b"", part.end - part.physical) for part in image.segments]
    machine = Machine(facts.memory_bytes)
    try:
        start_of_day(
            machine.cpu,
            replace(image, segments=hollow),
            frequency=machine.profile.hz,
            epoch=EPOCH,
            console=lambda _text: None,
        )
    except ValueError as problem:
        raise ImageError(str(problem)) from problem
    return image
