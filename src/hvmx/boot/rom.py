"""Firmware: a ROM image that ends at 4 GiB and is entered at the reset vector."""

from __future__ import annotations

from . import cpu
from .layout import FOUR_GIB, HIGH_MEMORY, PAGE, SHADOW, Placement
from .prepared import Prepared, Rom, Segment

#: The I/O APIC and the local APIC are 20 and 18 MiB below 4 GiB; a ROM below 4 GiB must not reach down to them.
LARGEST = 16 << 20
#: The first instruction is 16 bytes below the end (SDM vol. 3, 10.1.4); firmware jumps away from there.
RESET_VECTOR = 16
_JUMPS, _NOP = (b"\xea", b"\xe9", b"\xeb"), b"\x90"


def is_firmware(image: memoryview) -> bool:
    """Whether ``image`` could be a ROM, and jumps away from where the processor begins, as firmware does."""
    return _is_rom_size(len(image)) and bytes(image[-RESET_VECTOR:]).lstrip(_NOP).startswith(_JUMPS)


def _is_rom_size(size: int) -> bool:
    return 0 < size <= LARGEST and size % PAGE == 0


def prepare_rom(image: memoryview, placement: Placement, memory_bytes: int) -> Prepared:
    """``image`` below 4 GiB, its last 128 KiB also below 1 MiB, and the processor as after RESET.

    The copy below 1 MiB is RAM, as on a board whose firmware has been shadowed: SeaBIOS writes to it.
    """
    if not _is_rom_size(len(image)):
        raise placement.error(
            f"a ROM of {len(image):#x} bytes is not of 0x1 to {LARGEST // PAGE:#x} pages of {PAGE:#x} bytes"
        )
    if memory_bytes < HIGH_MEMORY:
        raise placement.error(f"firmware needs {HIGH_MEMORY:#x} bytes of memory, the guest has {memory_bytes:#x}")
    shadow = image[-(HIGH_MEMORY - SHADOW) :]
    return Prepared(
        kind="rom",
        description=f"ROM of {len(image):#x} bytes, entered at the reset vector",
        cpu=cpu.at_reset(),
        memory=[Segment(HIGH_MEMORY - len(shadow), shadow)],
        roms=[Rom(FOUR_GIB - len(image), image)],
    )
