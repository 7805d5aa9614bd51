"""What CR0 and CR4 take away from instructions on MMX and XMM registers, before anything else is looked at.

Expected from the SDM, volume 3: table 2-2 (CR0.EM, CR0.TS), section 2.5 (CR4.OSFXSR).
"""

from __future__ import annotations

import struct
from typing import Any

import pytest

from hvmx.isa import Row, rows

core = pytest.importorskip("hvmx.core.vcpu", reason="the core is not built")
decode = pytest.importorskip("hvmx.core.decode.decoder", reason="the core is not built").decode_py

ET, EM, TS, OSFXSR = 0x10, 4, 8, 0x200
UD, NM, GP = 6, 7, 13
NOTHING = None
CODE, HANDLERS, STACK, OUTSIDE, DS_LIMIT = 0x1000, 0x2000, 0x8000, 0xFFE0, 0xFFF
SIMD = [row for row in rows() if (row.is_vector or row.is_mmx) and 16 in row.modes]


def encoding(row: Row, memory: bool) -> bytes:
    """The row in 16-bit code: on registers, or with its operand beyond the limit of DS."""
    escape = (b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a")[row.map]
    mandatory = bytes.fromhex("" if row.prefix in ("", "NP", "NFx") else row.prefix)
    reg = int(row.modrm) << 3 if row.modrm.isdigit() else 0
    operand = bytes([reg | 6]) + struct.pack("<H", OUTSIDE) if memory else bytes([reg | 0xC1])
    immediate = b"\1" if "Ib" in row.operands else b""
    code = mandatory + escape + bytes([row.opcodes.start]) + operand * bool(row.modrm) + immediate
    insn = decode(code, 16)
    assert insn and insn["row"] is row and insn["length"] == len(code), code.hex(" ")
    return code


def exception(code: bytes, cr0: int, cr4: int) -> int | None:
    """The vector of the exception that an instruction raises in real-address mode; NOTHING if it does its work."""
    cpu: Any = core.Vcpu(memory_bytes=1 << 20)
    cpu.cr0, cpu.cr4, cpu.fcw = ET | cr0, cr4, 0x37F
    for name in ("cs", "ss", "es"):
        cpu.set_segment(name, 0, 0, 0xFFFF, 0x9B if name == "cs" else 0x93)
    cpu.set_segment("ds", 0, 0, DS_LIMIT, 0x93)
    cpu.idtr = 0, 0x3FF
    cpu.write(0, b"".join(struct.pack("<HH", HANDLERS + vector, 0) for vector in range(32)))
    cpu.write(CODE, code)
    cpu.rip, cpu.rsp = CODE, STACK
    cpu.step()
    if cpu.rip == CODE + len(code):
        return NOTHING
    assert 0 <= cpu.rip - HANDLERS < 32, f"{code.hex(' ')} went to {cpu.rip:#x}"
    return int(cpu.rip - HANDLERS)


@pytest.mark.parametrize("row", SIMD, ids=lambda row: f"{row.text} {row.family} {row.operands}")
def test_unit_that_is_away_comes_before_the_operand(row: Row) -> None:
    without_osfxsr = UD if row.is_vector else NOTHING
    if not row.memory_only:
        code = encoding(row, memory=False)
        assert exception(code, 0, OSFXSR) is NOTHING
        assert exception(code, EM, OSFXSR) == UD
        assert exception(code, TS, OSFXSR) == NM
        assert exception(code, EM | TS, OSFXSR) == UD
        assert exception(code, 0, 0) == without_osfxsr
    if "r" in row.memory or "w" in row.memory:
        code = encoding(row, memory=True)
        assert exception(code, 0, OSFXSR) == GP
        assert exception(code, EM, OSFXSR) == UD
        assert exception(code, TS, OSFXSR) == NM
        assert exception(code, EM | TS, OSFXSR) == UD
        assert exception(code, 0, 0) == (without_osfxsr or GP)
