"""The processor's state at the guest's first instruction, in the terms of the SDM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

CR0_PE, CR0_ET, CR0_NW, CR0_CD, CR0_PG = 1 << 0, 1 << 4, 1 << 29, 1 << 30, 1 << 31
CR4_PAE = 1 << 5
EFER_LME, EFER_LMA = 1 << 8, 1 << 10
RFLAGS_FIXED = 1 << 1

# Access rights in the format of the VMCS (SDM vol. 3, 24.4.1): type 0-3, S 4, DPL 5-6, P 7, L 13, D/B 14, G
# 15.
CODE16 = DATA16 = 0x0093
CODE32, CODE64, DATA32 = 0xC09B, 0xA09B, 0xC093
LDT, TSS32_BUSY = 0x0082, 0x008B
UNUSABLE = 1 << 16

# The selectors that Linux asks for (boot.rst, "32-bit Boot Protocol"); the other formats leave them to the
# loader.
BOOT_CS, BOOT_DS = 0x10, 0x18
GDT_BYTES = 0x20

DATA_SEGMENTS = ("ds", "es", "fs", "gs", "ss")


class SegmentState(NamedTuple):
    """A segment register with its hidden part; ``limit`` in bytes, ``access`` in the VMCS format."""

    selector: int
    base: int
    limit: int
    access: int


class TableRegister(NamedTuple):
    """GDTR or IDTR; ``limit`` is the offset of the last byte."""

    base: int
    limit: int


@dataclass(frozen=True)
class CpuState:
    """Registers by lower-case name (``rax`` ... ``rip``, ``rflags``, ``cr0``, ``cr3``, ``cr4``, ``efer``).

    A general register that is not named is as RESET leaves it. ``segments`` has ``cs``, ``ds``, ``es``, ``fs``, ``gs``,
    ``ss``, ``ldtr`` and ``tr``.
    """

    registers: dict[str, int]
    segments: dict[str, SegmentState]
    gdtr: TableRegister
    idtr: TableRegister


def real_mode(
    *, cs: SegmentState, rip: int, rsp: int = 0, cr0: int = CR0_ET, registers: dict[str, int] | None = None
) -> CpuState:
    """Real mode with interrupts off and the interrupt vectors at 0; all segments but ``cs`` are 0."""
    data = SegmentState(0, 0, 0xFFFF, DATA16)
    return CpuState(
        registers={"rip": rip, "rsp": rsp, "rflags": RFLAGS_FIXED, "cr0": cr0, "cr3": 0, "cr4": 0, "efer": 0}
        | (registers or {}),
        segments=dict.fromkeys(DATA_SEGMENTS, data)
        | {"cs": cs, "ldtr": SegmentState(0, 0, 0xFFFF, LDT), "tr": SegmentState(0, 0, 0xFFFF, TSS32_BUSY)},
        gdtr=TableRegister(0, 0xFFFF),
        idtr=TableRegister(0, 0xFFFF),
    )


def at_reset() -> CpuState:
    """The state after RESET (SDM vol. 3, 9.1.1), whose first instruction is 16 bytes below 4 GiB."""
    return real_mode(
        cs=SegmentState(0xF000, 0xFFFF0000, 0xFFFF, CODE16), rip=0xFFF0, cr0=CR0_CD | CR0_NW | CR0_ET
    )


def protected_mode(*, rip: int, gdt: int, rsp: int, registers: dict[str, int] | None = None) -> CpuState:
    """32-bit flat segments, paging off, interrupts off; ``gdt`` is where ``boot_gdt(long=False)`` was placed.

    This satisfies the entry conditions of Multiboot (3.2), of the Xen HVM direct boot ABI (TR: a busy 32-bit
    TSS at 0 of limit 0x67; CR0: PE alone of the writable bits) and of Linux's 32-bit boot protocol.
    """
    control = {"cr0": CR0_PE | CR0_ET, "cr3": 0, "cr4": 0, "efer": 0}
    return _flat(CODE32, rip, gdt, rsp, control | (registers or {}))


def long_mode(*, rip: int, gdt: int, cr3: int, rsp: int, registers: dict[str, int] | None = None) -> CpuState:
    """64-bit mode under the page tables at ``cr3``, interrupts off; ``gdt`` holds ``boot_gdt(long=True)``."""
    control = {"cr0": CR0_PG | CR0_PE | CR0_ET, "cr3": cr3, "cr4": CR4_PAE, "efer": EFER_LME | EFER_LMA}
    return _flat(CODE64, rip, gdt, rsp, control | (registers or {}))


def boot_gdt(*, long: bool) -> bytes:
    """The global descriptor table that the flat states are loaded from: two null entries, code, data."""
    code, data = _flat_descriptor(CODE64 if long else CODE32), _flat_descriptor(DATA32)
    return bytes(BOOT_CS) + code.to_bytes(8, "little") + data.to_bytes(8, "little")


def _flat_descriptor(access: int) -> int:
    # SDM vol. 3, 3.4.5: with base 0 and limit 0xFFFFF, only the access rights are left to set: bits 40-47 and 52-55.
    return 0x000F00000000FFFF | (access & 0xFF) << 40 | (access >> 12 & 0xF) << 52


def _flat(code: int, rip: int, gdt: int, rsp: int, registers: dict[str, int]) -> CpuState:
    return CpuState(
        registers={"rip": rip, "rsp": rsp, "rflags": RFLAGS_FIXED} | registers,
        segments=dict.fromkeys(DATA_SEGMENTS, SegmentState(BOOT_DS, 0, 0xFFFFFFFF, DATA32))
        | {
            "cs": SegmentState(BOOT_CS, 0, 0xFFFFFFFF, code),
            "ldtr": SegmentState(0, 0, 0, UNUSABLE),
            "tr": SegmentState(0, 0, 0x67, TSS32_BUSY),
        },
        gdtr=TableRegister(gdt, GDT_BYTES - 1),
        idtr=TableRegister(0, 0),
    )
