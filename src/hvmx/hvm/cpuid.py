"""CPUID: reports what the processor's level has (SDM vol. 2, CPUID). hvmx.isa.levels has the bits of each feature."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from hvmx.isa.levels import CPUID_BITS, Level

if TYPE_CHECKING:
    from hvmx.core.vcpu import Vcpu

VENDOR = b"GenuineIntel"
BRAND = b"hvmx virtual x86 processor".ljust(48, b"\0")
EXTENDED = 0x80000000
LINEAR_BITS = 48
CLFLUSH_QUADWORDS = 8
SUBLEAVES = (7, 0xD)
"""The leaves that have subleaves, selected by ECX."""
XCR0_X87, XCR0_SSE = 1, 2
XCR0_BITS = XCR0_X87 | XCR0_SSE
"""The state components that XCR0 can enable (SDM vol. 1, 13.1)."""
XSAVE_AREA_BYTES = 512 + 64
"""Bytes of the legacy region, which has both components, and of the header."""
CR4_OSXSAVE = 1 << 18
LEAF_1_OSXSAVE = 1 << 27
"""In ECX: CR4.OSXSAVE is set."""
LEAF_2_ONCE = 1
"""EAX of leaf 2: one call returns all descriptors, of which there are none."""


def _words(text: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(text[i : i + 4], "little") for i in range(0, len(text), 4))


@lru_cache(maxsize=64)
def leaf(level: Level, function: int, subleaf: int) -> tuple[int, int, int, int]:
    """EAX, EBX, ECX, EDX of a leaf; leaves beyond the last give that of the last basic leaf (SDM vol. 2, CPUID)."""
    if not (function <= level.basic_leaf or EXTENDED <= function <= level.extended_leaf):
        function = level.basic_leaf
    registers = {"eax": 0, "ebx": 0, "ecx": 0, "edx": 0}
    for feature in level.features:
        place = CPUID_BITS.get(feature)
        if place is not None and place[:2] == (function, subleaf if function in SUBLEAVES else 0):
            registers[place.register] |= 1 << place.bit
    if function == 0:
        registers["eax"] = level.basic_leaf
        registers["ebx"], registers["edx"], registers["ecx"] = _words(VENDOR)
    elif function == 1:
        registers["eax"] = level.signature
        if "clflush" in level.features:
            registers["ebx"] = CLFLUSH_QUADWORDS << 8
    elif function == 2:
        registers["eax"] = LEAF_2_ONCE
    elif function == 0xD and subleaf == 0:
        return XCR0_BITS, XSAVE_AREA_BYTES, XSAVE_AREA_BYTES, 0
    elif function == EXTENDED:
        registers["eax"] = level.extended_leaf
    elif EXTENDED + 2 <= function <= EXTENDED + 4:
        return _quadruple(BRAND[16 * (function - EXTENDED - 2) :])
    elif function == EXTENDED + 8:
        registers["eax"] = level.physical_bits | LINEAR_BITS << 8
    return registers["eax"], registers["ebx"], registers["ecx"], registers["edx"]


def _quadruple(text: bytes) -> tuple[int, int, int, int]:
    eax, ebx, ecx, edx = _words(text[:16])
    return eax, ebx, ecx, edx


def cpuid(vcpu: Vcpu, exit: object) -> None:
    """The handler of exit reason 10."""
    function = vcpu.rax & 0xFFFFFFFF
    vcpu.rax, vcpu.rbx, vcpu.rcx, vcpu.rdx = leaf(vcpu.level, function, vcpu.rcx & 0xFFFFFFFF)
    if function == 1 and vcpu.cr4 & CR4_OSXSAVE:
        vcpu.rcx |= LEAF_1_OSXSAVE
