"""CPUID: the processor says what it has, and has what it says (Intel SDM vol. 2, CPUID)."""

from __future__ import annotations

from typing import Protocol

VENDOR = b"GenuineIntel"
BRAND = b"hvmx virtual x86 processor".ljust(48, b"\0")
SIGNATURE = 0x000006FB
"""Family 6, model 15, stepping 11."""

_LEAF1_EDX = {
    "fpu": 0, "de": 2, "pse": 3, "tsc": 4, "msr": 5, "pae": 6, "cx8": 8, "sep": 11, "mtrr": 12, "pge": 13, "cmov": 15,
    "pat": 16, "pse36": 17, "clflush": 19, "fxsr": 24,
}  # fmt: skip
_LEAF1_ECX = {"cx16": 13, "movbe": 22, "popcnt": 23}
_LEAF7_EBX = {"smep": 7, "smap": 20}
_EXTENDED_EDX = {"syscall": 11, "nx": 20, "rdtscp": 27, "lm": 29}
_EXTENDED_ECX = {"lahf": 0, "prefetchw": 8}
PHYSICAL_BITS, LINEAR_BITS = 40, 48
CLFLUSH_QUADWORDS = 8


class Registers(Protocol):
    rax: int
    rbx: int
    rcx: int
    rdx: int


def _bits(places: dict[str, int]) -> int:
    return sum(1 << place for place in places.values())


def _words(text: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(text[i : i + 4], "little") for i in range(0, len(text), 4))


def leaf(function: int, subleaf: int) -> tuple[int, int, int, int]:
    """EAX, EBX, ECX, EDX of a leaf; a leaf beyond the last basic one answers as the last (SDM vol. 2, CPUID)."""
    if function & 0xFFFF0000 == 0x80000000:
        return _extended(function)
    if function == 0:
        first, second, third = _words(VENDOR)
        return 7, first, third, second
    if function == 1:
        return SIGNATURE, CLFLUSH_QUADWORDS << 8 | 1 << 16, _bits(_LEAF1_ECX), _bits(_LEAF1_EDX)
    if function == 7 and subleaf == 0 or function > 7:
        return 0, _bits(_LEAF7_EBX), 0, 0
    return 0, 0, 0, 0


def _extended(function: int) -> tuple[int, int, int, int]:
    if function == 0x80000000:
        return 0x80000008, 0, 0, 0
    if function == 0x80000001:
        return 0, 0, _bits(_EXTENDED_ECX), _bits(_EXTENDED_EDX)
    if 0x80000002 <= function <= 0x80000004:
        place = 16 * (function - 0x80000002)
        eax, ebx, ecx, edx = _words(BRAND[place : place + 16])
        return eax, ebx, ecx, edx
    if function == 0x80000008:
        return PHYSICAL_BITS | LINEAR_BITS << 8, 0, 0, 0
    return 0, 0, 0, 0


def cpuid(vcpu: Registers, exit: object) -> None:
    """The handler of exit reason 10."""
    vcpu.rax, vcpu.rbx, vcpu.rcx, vcpu.rdx = leaf(vcpu.rax & 0xFFFFFFFF, vcpu.rcx & 0xFFFFFFFF)
