"""Xen's ELF notes (xen/include/public/elfnote.h): how a kernel wants to be started."""

from __future__ import annotations

from enum import IntEnum

from .elf import Elf
from .prepared import ImageError


class XenNote(IntEnum):
    """Types of the notes whose name is ``Xen``."""

    INFO = 0
    ENTRY = 1
    HYPERCALL_PAGE = 2
    VIRT_BASE = 3
    PADDR_OFFSET = 4
    XEN_VERSION = 5
    GUEST_OS = 6
    GUEST_VERSION = 7
    LOADER = 8
    PAE_MODE = 9
    FEATURES = 10
    BSD_SYMTAB = 11
    HV_START_LOW = 12
    L1_MFN_VALID = 13
    SUSPEND_CANCEL = 14
    INIT_P2M = 15
    MOD_START_PFN = 16
    SUPPORTED_FEATURES = 17
    PHYS32_ENTRY = 18


class XenFeature(IntEnum):
    """Xen's features by number (xen/include/public/features.h): the bits of SUPPORTED_FEATURES."""

    writable_page_tables = 0
    writable_descriptor_tables = 1
    auto_translated_physmap = 2
    supervisor_mode_kernel = 3
    pae_pgdir_above_4gb = 4
    mmu_pt_update_preserve_ad = 5
    highmem_assist = 6
    gnttab_map_avail_bits = 7
    hvm_callback_vector = 8
    hvm_safe_pvclock = 9
    hvm_pirqs = 10
    dom0 = 11
    grant_map_identity = 12
    memory_op_vnode_supported = 13
    ARM_SMCCC_supported = 14
    linux_rsdp_unrestricted = 15
    not_direct_mapped = 16
    direct_mapped = 17


_NUMBERS = {
    XenNote.ENTRY,
    XenNote.HYPERCALL_PAGE,
    XenNote.VIRT_BASE,
    XenNote.PADDR_OFFSET,
    XenNote.HV_START_LOW,
    XenNote.SUSPEND_CANCEL,
    XenNote.INIT_P2M,
    XenNote.MOD_START_PFN,
    XenNote.SUPPORTED_FEATURES,
    XenNote.PHYS32_ENTRY,
}


class XenNotes:
    """The Xen notes of an executable, by type; of several of one type the last one counts."""

    def __init__(self, executable: Elf) -> None:
        self._name = executable.name
        self._values = {note.type: note.value for note in executable.notes() if note.name == b"Xen"}

    @property
    def types(self) -> list[int]:
        """The types of the notes that there are, in order; some may be none of ``XenNote``."""
        return list(self._values)

    def octets(self, note: int) -> bytes:
        """The value of a note that there is, as it stands in the file."""
        return self._values[note]

    def value(self, note: XenNote) -> int | str | list[tuple[int, int]] | None:
        """The value of a note as what Xen defines it to be; None where the note is absent."""
        if note in _NUMBERS:
            return self.number(note)
        return self.pairs(note) if note is XenNote.L1_MFN_VALID else self.text(note)

    def features(self) -> tuple[frozenset[str], frozenset[str]]:
        """The names in the FEATURES note: those that the kernel requires, and those that it can do with."""
        names = [name for name in (self.text(XenNote.FEATURES) or "").split("|") if name]
        required = frozenset(name[1:] for name in names if name.startswith("!"))
        return required, frozenset(name for name in names if not name.startswith("!"))

    def number(self, note: XenNote) -> int | None:
        """The value of a numeric note, of 4 or 8 bytes; None where the note is absent."""
        value = self._values.get(note)
        if value is None:
            return None
        if len(value) not in (4, 8):
            raise self._wrong(note, "is no number of 4 or 8 bytes")
        return int.from_bytes(value, "little")

    def text(self, note: XenNote) -> str | None:
        """The value of a string note, without its closing zero; None where the note is absent."""
        value = self._values.get(note)
        if value is None:
            return None
        text = value.split(b"\0", 1)[0]
        if not text.isascii():
            raise self._wrong(note, "is no ASCII string")
        return text.decode("ascii")

    def pairs(self, note: XenNote) -> list[tuple[int, int]]:
        """The value of a note that lists pairs of 8-byte mask and value; empty where the note is absent."""
        value = self._values.get(note, b"")
        if len(value) % 16:
            raise self._wrong(note, "is no list of 16-byte pairs")
        numbers = [int.from_bytes(value[i : i + 8], "little") for i in range(0, len(value), 8)]
        return list(zip(numbers[::2], numbers[1::2], strict=True))

    def _wrong(self, note: XenNote, problem: str) -> ImageError:
        value = self._values[note]
        return ImageError(
            f"{self._name}: Xen note {note.name} ({len(value):#x} bytes: {value[:16].hex()}) {problem}"
        )
