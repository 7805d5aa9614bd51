"""Large pages are those that the processor's level has: PSE-36's above 4 GiB, and pages of 1 GiB."""

from __future__ import annotations

import struct

import pytest

from hvmx.core.vcpu import Vcpu
from hvmx.isa.levels import LEVELS
from hvmx.vocabulary import ExitReason

CODE, TABLE, FAULT_HANDLER, IDT, STACK = 0x8000, 0x10000, 0x9000, 0xA000, 0x7000
RESERVED_BIT_ON_WRITE = 0b1011
STORE_32 = "c7 05 00 00 40 00 78 56 34 12 f4"  # mov dword [0x400000], 0x12345678; hlt
STORE_64 = "48 b8 00 00 00 40 00 00 00 00 c7 00 78 56 34 12 f4"  # mov rax, 1 << 30; mov dword [rax], ...; hlt
WRITTEN = 0x12345678


def processor(level: str, bits: int, memory: str | int) -> Vcpu:
    """Flat segments, and a page-fault handler that halts; paging is up to the caller."""
    vcpu = Vcpu(memory, LEVELS[level])
    vcpu.set_handler(ExitReason.TRIPLE_FAULT, lambda vcpu, exit: None)
    for name in ("ds", "es", "ss"):
        vcpu.set_segment(name, 0x10, 0, 0xFFFFFFFF, 0xC093)
    vcpu.set_segment("cs", 8, 0, 0xFFFFFFFF, 0xC09B if bits == 32 else 0xA09B)
    vcpu.write(0x1008, struct.pack("<Q", 0x00CF9B000000FFFF if bits == 32 else 0x00AF9B000000FFFF))
    vcpu.gdtr, vcpu.idtr = (0x1000, 0x17), (IDT, 0xFF)
    gate = struct.pack("<HHBBH", FAULT_HANDLER, 8, 0, 0x8E, 0)
    vcpu.write(IDT + 14 * len(gate) * (bits // 32), gate)
    vcpu.write(FAULT_HANDLER, b"\xf4")
    vcpu.rip, vcpu.rsp = CODE, STACK
    return vcpu


def error_code(vcpu: Vcpu) -> int | None:
    """What the page-fault handler was called with, or None if it was not."""
    if vcpu.rip != FAULT_HANDLER + 1:
        return None
    return struct.unpack("<I", vcpu.read(vcpu.rsp, 4))[0]


@pytest.mark.parametrize(
    ("level", "bits", "allowed"),
    [
        ("pentium", 0, True),
        ("pentium", 1 << 13, False),
        ("pentium2", 1 << 13, True),
        ("pentium2", 1 << 16, True),
        ("pentium2", 1 << 17, False),
        ("x86-64-v2", 1 << 20, True),
        ("x86-64-v2", 1 << 21, False),
    ],
)
def test_large_page_is_as_high_as_the_processor_has_addresses(level: str, bits: int, allowed: bool) -> None:
    vcpu = processor(level, 32, 8 << 20)
    vcpu.write(TABLE, struct.pack("<II", 0x83, 0x400083 | bits))
    vcpu.write(CODE, bytes.fromhex(STORE_32))
    vcpu.cr3, vcpu.cr4, vcpu.cr0 = TABLE, 0x10, 0x80000011
    written: list[tuple[int, int]] = []
    vcpu.set_handler(ExitReason.EPT_MISCONFIG, lambda vcpu, exit: written.append((exit.guest_physical, exit.value)))
    vcpu.run(cycles=100_000)
    address = 0x400000 | bits << 19
    if not allowed:
        assert error_code(vcpu) == RESERVED_BIT_ON_WRITE
        assert vcpu.cr2 == 0x400000
    elif bits:
        assert written == [(address, WRITTEN)]
        assert vcpu.translate(0x400000) == address
    else:
        assert struct.unpack("<I", vcpu.read(address, 4))[0] == WRITTEN


@pytest.mark.parametrize(("level", "allowed"), [("x86-64-v1", False), ("x86-64-v2", True)])
def test_page_of_1_gib_is_reserved_below_its_level(level: str, allowed: bool) -> None:
    vcpu = processor(level, 64, 8 << 20)
    vcpu.write(TABLE, struct.pack("<Q", TABLE + 0x1000 | 3))
    vcpu.write(TABLE + 0x1000, struct.pack("<QQ", TABLE + 0x2000 | 3, 0x83))  # 1 GiB and up is 0 and up
    vcpu.write(TABLE + 0x2000, struct.pack("<QQ", 0x83, 0x200083))
    vcpu.write(CODE, bytes.fromhex(STORE_64))
    vcpu.cr3, vcpu.cr4, vcpu.efer, vcpu.cr0 = TABLE, 0x20, 0x500, 0x80000011
    vcpu.run(cycles=100_000)
    assert error_code(vcpu) == (None if allowed else RESERVED_BIT_ON_WRITE)
    assert struct.unpack("<I", vcpu.read(0, 4))[0] == (WRITTEN if allowed else 0)


def test_invlpg_forgets_all_of_a_page_of_1_gib() -> None:
    """SDM vol. 3, 4.10.4.1: whatever part of it the address lies in."""
    vcpu = processor("x86-64-v2", 64, 8 << 20)
    high = 1 << 30
    vcpu.write(TABLE, struct.pack("<Q", TABLE + 0x1000 | 3))
    vcpu.write(TABLE + 0x1000, struct.pack("<QQ", TABLE + 0x2000 | 3, 0x83))  # 1 GiB and up is 0 and up
    vcpu.write(TABLE + 0x2000, struct.pack("<QQ", 0x83, 0x200083))
    load_rax = b"\x48\xb8" + struct.pack("<Q", high)
    load_rbx = b"\x48\xbb" + struct.pack("<Q", high + 0x600000)
    touch = b"\x8b\x08"  # mov ecx, [rax]
    unmap = b"\xc7\x04\x25" + struct.pack("<II", TABLE + 0x1008, 0)  # mov dword [...], 0
    invlpg = b"\x0f\x01\x3b"  # invlpg [rbx]
    vcpu.write(CODE, load_rax + load_rbx + touch + unmap + invlpg + touch + b"\xf4")
    vcpu.cr3, vcpu.cr4, vcpu.efer, vcpu.cr0 = TABLE, 0x20, 0x500, 0x80000011
    vcpu.run(cycles=100_000)
    assert error_code(vcpu) == 0, "the page is gone, and INVLPG of another part of it has told the processor"
    assert vcpu.cr2 == high
