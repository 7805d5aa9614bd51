"""Which format an image has, by its content, and the function that prepares a machine for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from . import elf, linux, multiboot, payload, pvh, xen
from .executable import prepare_executable
from .flat import prepare_flat
from .layout import PAGE, Placement, memory_map
from .prepared import ImageError, Module, Octets, Prepared
from .rom import prepare_rom
from .scratch import PIECE, Scratch
from .xen import XenImage

Source = str | PathLike[str] | Octets

#: The largest image that is read. Modules and the initrd are bounded by the guest's memory, an image by this, as what
#: is loaded of it (of an executable with debugging information, say) may be far less than the whole.
LARGEST_IMAGE = 1 << 30
#: RFC 1952, 2.3.1: the identification, and the one compression method that there is.
_GZIP = b"\x1f\x8b\x08"


def prepare(
    image: Source | None,
    *,
    memory_bytes: int,
    command_line: str = "",
    initrd: Source | None = None,
    modules: Sequence[Source] = (),
    pv: bool = False,
    bios: Source | None = None,
    load_address: int | None = None,
    entry: int | None = None,
    bits: int | None = None,
    decompress: bool = True,
    hole: bool = True,
    name: str | None = None,
) -> Prepared | XenImage:
    """A machine of ``memory_bytes`` (whole pages) prepared to run ``image``, a path or its octets.

    The format is told by the content: Linux bzImage, Multiboot 1, ELF with a PVH note or without; with ``pv`` an
    ELF with Xen's PV notes, or a bzImage with one inside, which gives a ``XenImage``. Any of them may be packed
    by gzip as a whole, as Xen and GNU Mach are, which GRUB unpacks too. ``load_address``, ``entry``
    or ``bits`` (16, 32 or 64; 32 by default) make any image a flat binary. ``bios`` is a ROM for the reset
    vector, and stands alone.

    ``initrd`` and ``modules`` go where the format takes them (``initrd`` as the first module, but for Linux).
    Without ``decompress`` a bzImage runs its own decompressor, and anything else is refused. Without ``hole``
    RAM is in one piece. ``name`` is what messages call ``image``, by default its path.

    Raises ``ImageError`` for an image that cannot be booted, and ``ValueError`` for sizes that no machine
    has.
    """
    _check_sizes(memory_bytes, bits)
    regions = memory_map(memory_bytes, hole=hole and not pv)
    source = bios if image is None else image
    if source is None:
        raise ValueError("neither an image nor a BIOS was given")
    placement = Placement(regions, name or source_name(source))
    if image is None or bios is not None:
        if image is not None or pv or initrd is not None or modules or command_line:
            raise placement.error(
                "a BIOS boots alone: it takes no image, initrd, modules or command line from here"
            )
        return prepare_rom(read_image(source, placement.name), placement, memory_bytes)

    octets = read_image(image, placement.name)
    if not decompress and (pv or not linux.is_linux(octets)):
        raise placement.error("only a bzImage run as HVM can be left to decompress itself")
    guest = _Guest(
        octets,
        placement,
        memory_bytes,
        file_name=_file_name(image),
        command_line=command_line,
        initrd=None if initrd is None else _module(initrd, memory_bytes),
        modules=[_module(module, memory_bytes) for module in modules],
    )
    if load_address is not None or entry is not None or bits is not None:
        guest.stands_alone("a flat binary takes no initrd, modules or command line, and is no PV kernel", pv)
        return prepare_flat(octets, placement, load_address=load_address, entry=entry, bits=bits or 32)
    guest = replace(guest, octets=unpack(octets, memory_bytes, placement.name))
    return _pv_guest(guest) if pv else _hvm_guest(guest, decompress)


def read_image(source: Source, name: str) -> memoryview:
    """The octets of an image, which messages call ``name``; ``ImageError`` where it cannot be read, or is empty."""
    octets = _read(source, LARGEST_IMAGE, name)
    if not octets:
        raise ImageError(f"{name}: the file is empty")
    return octets


def unpack(octets: memoryview, memory_bytes: int, name: str) -> memoryview:
    """What is in an image that gzip has packed as a whole; any other as it is."""
    if octets[: len(_GZIP)] != _GZIP:
        return octets
    inside = payload.decompress(octets, memory_bytes, name)
    if not inside:
        raise ImageError(f"{name}: the file that gzip has packed is empty")
    return inside


def _check_sizes(memory_bytes: int, bits: int | None) -> None:
    if memory_bytes < PAGE or memory_bytes % PAGE:
        raise ValueError(
            f"guest memory of {memory_bytes} bytes is not a positive number of {PAGE}-byte pages"
        )
    if bits not in (None, 16, 32, 64):
        raise ValueError(f"a flat binary is entered with 16, 32 or 64 bits, not {bits}")


@dataclass(frozen=True)
class _Guest:
    """An image that tells its format, and what it is given."""

    octets: memoryview
    placement: Placement
    memory_bytes: int
    file_name: str
    command_line: str
    initrd: Module | None
    modules: list[Module]

    @property
    def all_modules(self) -> list[Module]:
        """For formats to which the initrd is the first module."""
        return self.modules if self.initrd is None else [self.initrd, *self.modules]

    def stands_alone(self, problem: str, pv: bool = False) -> None:
        """ImageError where it is given anything, or is to be a PV guest."""
        if pv or self.all_modules or self.command_line:
            raise self.placement.error(problem)


def _pv_guest(guest: _Guest) -> XenImage:
    executable = _pv_executable(guest.octets, guest.placement, guest.memory_bytes)
    return xen.prepare_xen(
        executable, guest.placement, command_line=guest.command_line, modules=guest.all_modules
    )


def _hvm_guest(guest: _Guest, decompress: bool) -> Prepared:
    octets, placement = guest.octets, guest.placement
    if linux.is_linux(octets):
        if guest.modules:
            raise placement.error(
                f"Linux takes an initrd, and none of the {len(guest.modules)} modules given"
            )
        setup = linux.bootable_header(octets, placement.name)
        return linux.prepare_linux(
            octets,
            setup,
            linux.extract(octets, setup, placement.name, guest.memory_bytes) if decompress else None,
            placement,
            command_line=guest.command_line,
            initrd=guest.initrd and guest.initrd.data,
        )
    header = multiboot.find_header(octets)
    if header is not None:
        return multiboot.prepare_multiboot(
            octets,
            header,
            placement,
            name=guest.file_name,
            command_line=guest.command_line,
            modules=guest.all_modules,
        )
    if octets[:4] == elf.MAGIC:
        return _elf_guest(guest)
    raise placement.error(
        f"no known format (starts with {octets[:8].hex()}); a flat binary needs a load address, entry or bits"
    )


def _elf_guest(guest: _Guest) -> Prepared:
    """An ELF file with a PVH note, or without."""
    executable = elf.parse(guest.octets, guest.placement.name)
    if pvh.entry_point(executable) is not None:
        return pvh.prepare_pvh(
            executable, guest.placement, command_line=guest.command_line, modules=guest.all_modules
        )
    guest.stands_alone("a plain ELF file takes no initrd, modules or command line")
    return prepare_executable(executable, guest.placement)


def _pv_executable(image: memoryview, placement: Placement, memory_bytes: int) -> elf.Elf:
    """The ELF file that ``image`` is, or holds as a bzImage."""
    if linux.is_linux(image):
        setup = linux.bootable_header(image, placement.name)
        vmlinux = linux.extract(image, setup, placement.name, memory_bytes)
        if vmlinux is None:
            raise placement.error("no PV kernel: this bzImage's payload is absent or of unknown compression")
        return vmlinux
    if image[:4] != elf.MAGIC:
        raise placement.error(f"no PV kernel: neither ELF nor bzImage (starts with {image[:8].hex()})")
    return elf.parse(image, placement.name)


def source_name(source: Source) -> str:
    """What messages call an image."""
    return "<bytes>" if isinstance(source, bytes | bytearray | memoryview) else str(Path(source))


def _module(source: Source, memory_bytes: int) -> Module:
    return Module(_read(source, memory_bytes), _file_name(source))


def _file_name(source: Source) -> str:
    """What the guest sees as the name of a file; a host's paths are no guest input."""
    return "" if isinstance(source, bytes | bytearray | memoryview) else Path(source).name


def _read_file(source: str | PathLike[str], limit: int) -> memoryview:
    """A file's octets, or more than ``limit`` of them."""
    with open(source, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if 0 < size <= limit:
            scratch = memoryview(Scratch(size))[:size]
            if file.readinto(scratch) == size and not file.read(1):
                return scratch
            file.seek(0)
        # A pipe, or a file that changes: by pieces, as the limit may be more than the host has, and what is read seldom is.
        read = bytearray()
        while len(read) <= limit and (piece := file.read(PIECE)):
            read += piece
        return memoryview(read)


def _read(source: Source, limit: int, name: str | None = None) -> memoryview:
    """The octets of ``source``, of at most ``limit`` bytes."""
    name = name or source_name(source)
    if isinstance(source, bytes | bytearray | memoryview):
        octets = memoryview(source).cast("B")
    else:
        try:
            octets = _read_file(source, limit)
        except OSError as problem:
            raise ImageError(f"{name}: cannot be read: {problem.strerror}") from problem
    if len(octets) > limit:
        raise ImageError(f"{name}: larger than {limit:#x} bytes")
    return octets
