"""PVH: ELF files with Xen's PHYS32_ENTRY note, entered with an hvm_start_info.

Sources: Xen's docs/misc/pvh ("x86/HVM direct boot ABI") and public/arch-x86/hvm/start_info.h.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from . import cpu
from .elf import Elf
from .layout import HIGH_MEMORY, PAGE, Placement
from .notes import XenNote, XenNotes
from .prepared import Module, Prepared

START_MAGIC, VERSION = 0x336EC578, 1


def entry_point(executable: Elf) -> int | None:
    """The value of the PVH note of ``executable``; None if it has none."""
    return XenNotes(executable).number(XenNote.PHYS32_ENTRY)


def prepare_pvh(
    executable: Elf, placement: Placement, *, command_line: str, modules: Sequence[Module]
) -> Prepared:
    """Loads ``executable`` and enters it in 32-bit protected mode at the physical address in its note."""
    entry = entry_point(executable)
    if entry is None:
        raise placement.error("an ELF file without a PVH note")
    executable.place(placement)
    executable.check_physical(entry, "the PVH entry point")
    if entry > 0xFFFFFFFF:
        raise placement.error(f"the PVH entry point {entry:#x} is above 4 GiB")
    state = cpu.protected_mode(
        rip=entry,
        gdt=placement.add_gdt(long=False),
        rsp=placement.add_stack(),
        registers={"rbx": _add_start_info(placement, command_line, modules)},
    )
    description = f"ELF with a PVH note, {executable.bits}-bit, 32-bit entry at {entry:#x}"
    return Prepared("pvh", description, state, placement.segments)


def _add_start_info(placement: Placement, command_line: str, modules: Sequence[Module]) -> int:
    entries = []
    for module in modules:
        physical = placement.add(
            module.data,
            f"module {module.name}",
            align=PAGE,
            start=HIGH_MEMORY,
            end=placement.high_memory_end,
            high=True,
        )
        name = placement.add_string(module.name, "a module's name")
        entries.append(struct.pack("<4Q", physical, len(module.data), name, 0))
    regions = [struct.pack("<QQII", *region, 0) for region in placement.regions]
    no_flags = no_rsdp = reserved = 0
    info = struct.pack(
        "<4I4Q2I",
        START_MAGIC,
        VERSION,
        no_flags,
        len(entries),
        placement.add(b"".join(entries), "the module list") if entries else 0,
        placement.add_string(command_line, "the command line"),
        no_rsdp,
        placement.add(b"".join(regions), "the memory map"),
        len(regions),
        reserved,
    )
    return placement.add(info, "the PVH start info")
