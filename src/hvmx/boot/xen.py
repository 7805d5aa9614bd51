"""Xen PV kernels: their notes and segments, parsed; ``hvmx.pv`` builds the start of day from these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .elf import Elf
from .layout import Placement
from .notes import XenNote, XenNotes
from .prepared import Module, Segment

#: The XEN_VERSION note of every PV kernel since Xen 3.0: the ABI's version, not the hypervisor's.
PV_ABI = "xen-3.0"


@dataclass(frozen=True)
class XenImage:
    """A paravirtual kernel as parsed; every address named ``virtual`` or ``*_page`` is one of the guest's
    own.

    A note that is absent is None, or empty, or Xen's default where it has one.
    """

    description: str
    bits: int
    segments: list[Segment]
    """The kernel in pseudo-physical memory (offsets into the domain's memory), ascending, without overlap."""
    virt_base: int
    """The virtual address of pseudo-physical address 0."""
    paddr_offset: int
    virt_start: int
    virt_end: int
    """The virtual extent of the segments, from the first byte to behind the last."""
    entry: int
    hypercall_page: int | None
    init_p2m: int | None
    hv_start_low: int | None
    features: frozenset[str]
    """All names in the FEATURES note, the required ones too."""
    required_features: frozenset[str]
    supported_features: int
    """The numeric note: a bit for each of Xen's XENFEAT numbers."""
    pae_mode: str
    bsd_symtab: bool
    l1_mfn_valid: list[tuple[int, int]]
    mod_start_pfn: bool
    suspend_cancel: bool
    guest_os: str | None
    guest_version: str | None
    xen_version: str
    loader: str | None
    command_line: str
    modules: Sequence[Module]
    """The initrd first, if there is one."""
    elf: memoryview
    """The whole executable, for the symbols that ``bsd_symtab`` asks for."""
    kind: str = "xen"


def prepare_xen(
    executable: Elf, placement: Placement, *, command_line: str, modules: Sequence[Module]
) -> XenImage:
    """Reads the Xen notes of ``executable`` and its segments.

    Raises ``ImageError`` where the notes are missing or malformed, or disagree with the segments.
    """
    notes = XenNotes(executable)
    version = notes.text(XenNote.XEN_VERSION)
    if version is None:
        raise placement.error(f"no Xen PV kernel: it has no XEN_VERSION note, Xen asks for {PV_ABI!r}")
    if not version.startswith(PV_ABI):
        raise placement.error(
            f"no Xen PV kernel: its XEN_VERSION note is {version[:16]!r}, Xen asks for {PV_ABI!r}"
        )
    virt_base = notes.number(XenNote.VIRT_BASE) or 0
    paddr_offset = notes.number(XenNote.PADDR_OFFSET) or 0
    executable.place(placement, paddr_offset=paddr_offset)
    segments = placement.segments
    virt_start, virt_end = virt_base + segments[0].physical, virt_base + segments[-1].end
    if virt_end > 1 << executable.bits:
        raise placement.error(
            f"its segments end at virtual address {virt_end:#x}, outside {executable.bits} bits"
        )
    entry = notes.number(XenNote.ENTRY)
    entry = executable.entry if entry is None else entry
    hypercall_page = notes.number(XenNote.HYPERCALL_PAGE)
    for what, address in (("entry point", entry), ("hypercall page", hypercall_page)):
        if address is not None and not virt_start <= address < virt_end:
            raise placement.error(
                f"the Xen {what} {address:#x} is outside the kernel at {virt_start:#x} to {virt_end:#x}"
            )

    required, optional = notes.features()
    return XenImage(
        description=f"Xen PV kernel, {executable.bits}-bit, entry at {entry:#x}",
        bits=executable.bits,
        segments=segments,
        virt_base=virt_base,
        paddr_offset=paddr_offset,
        virt_start=virt_start,
        virt_end=virt_end,
        entry=entry,
        hypercall_page=hypercall_page,
        init_p2m=notes.number(XenNote.INIT_P2M),
        hv_start_low=notes.number(XenNote.HV_START_LOW),
        features=required | optional,
        required_features=required,
        supported_features=notes.number(XenNote.SUPPORTED_FEATURES) or 0,
        pae_mode=notes.text(XenNote.PAE_MODE) or "no",
        bsd_symtab=notes.text(XenNote.BSD_SYMTAB) == "yes",
        l1_mfn_valid=notes.pairs(XenNote.L1_MFN_VALID),
        mod_start_pfn=bool(notes.number(XenNote.MOD_START_PFN)),
        suspend_cancel=bool(notes.number(XenNote.SUSPEND_CANCEL)),
        guest_os=notes.text(XenNote.GUEST_OS),
        guest_version=notes.text(XenNote.GUEST_VERSION),
        xen_version=version,
        loader=notes.text(XenNote.LOADER),
        command_line=command_line,
        modules=tuple(modules),
        elf=executable.image,
    )
