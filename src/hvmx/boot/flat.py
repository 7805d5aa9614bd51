"""Flat binaries: bytes at an address, entered in 16-, 32- or 64-bit mode."""

from __future__ import annotations

from . import cpu
from .layout import HIGH_MEMORY, Placement
from .prepared import Prepared

#: Where a 16-bit image is loaded unless told otherwise: where a PC's BIOS puts a boot sector.
BOOT_SECTOR = 0x7C00
REAL_MODE_END = 0x10000


def prepare_flat(
    image: memoryview, placement: Placement, *, load_address: int | None, entry: int | None, bits: int
) -> Prepared:
    """``image`` at ``load_address``, entered at ``entry`` (its start by default) with a page of stack.

    16-bit images are loaded at 0x7c00 by default and entered in real mode with SS 0; 32- and 64-bit images at
    1 MiB, with flat segments, and with the first 4 GiB mapped to themselves in 64-bit mode.
    """
    if load_address is None:
        load_address = BOOT_SECTOR if bits == 16 else HIGH_MEMORY
    if entry is None:
        entry = load_address
    placement.place(load_address, image, "the flat binary")
    end = load_address + len(image)
    if not load_address <= entry < end:
        raise placement.error(f"entry {entry:#x} is outside the flat binary at {load_address:#x} to {end:#x}")
    if bits == 16:
        state = _real_mode(placement, entry)
    else:
        gdt, rsp = placement.add_gdt(long=bits == 64), placement.add_stack()
        if bits == 64:
            state = cpu.long_mode(rip=entry, gdt=gdt, cr3=placement.add_identity_map(), rsp=rsp)
        else:
            state = cpu.protected_mode(rip=entry, gdt=gdt, rsp=rsp)
    description = f"flat binary, {len(image):#x} bytes at {load_address:#x}, {bits}-bit entry at {entry:#x}"
    return Prepared("flat", description, state, placement.segments)


def _real_mode(placement: Placement, entry: int) -> cpu.CpuState:
    if entry >= HIGH_MEMORY:
        raise placement.error(f"entry {entry:#x} is outside the {HIGH_MEMORY:#x} bytes of 16-bit mode")
    base = entry & ~0xFFFF
    cs = cpu.SegmentState(base >> 4, base, 0xFFFF, cpu.CODE16)
    return cpu.real_mode(cs=cs, rip=entry - base, rsp=placement.add_stack(end=REAL_MODE_END - 1))
