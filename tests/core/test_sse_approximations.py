"""RCPPS and RSQRTPS give the bits of Intel's processors on every host, within 1.5 * 2^-12 (SDM volume 2)."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable

import pytest

import hvmx

SOURCE, CODE = 0x8000, 0x1000
CR4_OSFXSR = 1 << 9
INSTRUCTIONS = {"rcpps": "0f 53 06 00 80", "rsqrtps": "0f 52 06 00 80"}
"""Of XMM0 and 16-bit DS:8000h."""
BITS = [
    ("rcpps", 0x3F800000, 0x3F7FF000), ("rcpps", 0x40000000, 0x3EFFF000), ("rcpps", 0x00800000, 0x7E7FF000),
    ("rcpps", 0x7E7FFFFF, 0x00800800), ("rcpps", 0x7E800000, 0x00000000), ("rcpps", 0xFE800001, 0x80000000),
    ("rcpps", 0x807FFFFF, 0xFF800000), ("rcpps", 0xFF800000, 0x80000000), ("rcpps", 0x7F800001, 0x7FC00001),
    ("rsqrtps", 0x3F800000, 0x3F7FF000), ("rsqrtps", 0x40000000, 0x3F34F800), ("rsqrtps", 0x00800000, 0x5EFFF000),
    ("rsqrtps", 0x7F7FFFFF, 0x1F800800), ("rsqrtps", 0x80000001, 0xFF800000), ("rsqrtps", 0xBF800000, 0xFFC00000),
    ("rsqrtps", 0x7F800000, 0x00000000), ("rsqrtps", 0xFF800000, 0xFFC00000), ("rsqrtps", 0xFFA00000, 0xFFE00000),
]  # fmt: skip
"""Operand and result, as an Intel Xeon of 2023 (family 6, model CFh) gives them."""


def approximations(name: str, operands: list[int]) -> list[int]:
    """What the instruction makes of four operands at a time."""
    cpu = hvmx.Machine("1M", board=False).cpu
    cpu.cr4 |= CR4_OSFXSR
    for segment, access in (("cs", 0x9B), ("ds", 0x93)):
        cpu.set_segment(segment, 0, 0, 0xFFFF, access)
    cpu.write(CODE, bytes.fromhex(INSTRUCTIONS[name]))
    results: list[int] = []
    for at in range(0, len(operands), 4):
        cpu.write(SOURCE, struct.pack("<4I", *operands[at : at + 4]))
        cpu.rip = CODE
        cpu.step()
        results += struct.unpack("<4I", cpu.registers()["xmm"][:16])
    return results


@pytest.mark.parametrize(("name", "operand", "result"), BITS)
def test_bits_are_those_of_intels_processors(name: str, operand: int, result: int) -> None:
    assert approximations(name, [operand] * 4) == [result] * 4


@pytest.mark.parametrize(("name", "exact"), [("rcpps", lambda x: 1 / x), ("rsqrtps", lambda x: 1 / math.sqrt(x))])
def test_relative_error_is_below_that_of_the_manual(name: str, exact: Callable[[float], float]) -> None:
    rng = random.Random(name)
    operands = [rng.randrange(1, 252) << 23 | rng.getrandbits(23) for _ in range(4000)]
    for operand, result in zip(operands, approximations(name, operands), strict=True):
        value, got = (struct.unpack("<f", struct.pack("<I", bits))[0] for bits in (operand, result))
        assert abs(got / exact(value) - 1) <= 1.5 * 2**-12, f"{name} of {value!r} is {got!r}"
