"""Plain static ELF executables: loaded at their physical addresses, and entered at their entry points."""

from __future__ import annotations

from . import cpu
from .elf import EM_X86_64, ET_DYN, ET_EXEC, PT_INTERP, Elf
from .layout import FOUR_GIB, Placement
from .prepared import Prepared


def prepare_executable(executable: Elf, placement: Placement) -> Prepared:
    """Loads ``executable`` and enters it as a flat binary of its width: flat segments, a page of stack, and in 64-bit
    mode the first 4 GiB mapped to themselves."""
    if executable.type not in (ET_EXEC, ET_DYN):
        raise placement.error(f"an ELF file of type {executable.type:#x} is no executable")
    if any(header.type == PT_INTERP for header in executable.headers):
        raise placement.error("an ELF executable that wants a dynamic linker, which a machine has not")
    executable.place(placement)
    entry = executable.physical_entry()
    if entry >= FOUR_GIB:
        raise placement.error(f"the entry point {entry:#x} is above the 4 GiB that are mapped")
    bits = 64 if executable.machine == EM_X86_64 else 32
    gdt, rsp = placement.add_gdt(long=bits == 64), placement.add_stack()
    if bits == 64:
        state = cpu.long_mode(rip=entry, gdt=gdt, cr3=placement.add_identity_map(), rsp=rsp)
    else:
        state = cpu.protected_mode(rip=entry, gdt=gdt, rsp=rsp)
    return Prepared("elf", f"ELF, {bits}-bit entry at {entry:#x}", state, placement.segments)
