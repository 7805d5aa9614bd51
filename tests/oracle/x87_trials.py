"""States of the x87 unit, and operands for it in memory, that tell a right result from a wrong one."""

from __future__ import annotations

import random
import struct

from .native import FXSAVE_BYTES

REGISTERS = 8
BIAS, MAX_EXPONENT = 0x3FFF, 0x7FFF
INTEGER_BIT, QUIET_BIT = 1 << 63, 1 << 62
DOUBLE_LOST, SINGLE_LOST = 11, 40
"""Bits of an 80-bit significand that rounding to double and single precision takes away."""

ALL_MASKED, SUMMARY_AND_BUSY = 0x3F, 0x8080

TRANSCENDENTAL = frozenset(("f2xm1", "fcos", "fpatan", "fptan", "fsin", "fsincos", "fyl2x", "fyl2xp1"))
"""Instructions whose results are within 1 ulp of the true value (SDM volume 1, 8.3.10), on no processor the nearest."""
STATUS, ST0 = 2, 32
"""Places in an FXSAVE image."""
PE, C1 = 0x20, 0x02
"""Of the status word's low and high byte."""


def _significand(rng: random.Random) -> int:
    """A fraction of 64 bits with the integer bit; halfway cases and long runs of ones are frequent."""
    lost = rng.choice((0, 1, DOUBLE_LOST, SINGLE_LOST, rng.randrange(1, 63)))
    kept = rng.choice((rng.getrandbits(63), 0, (1 << 63) - 1, 1 << lost)) >> lost << lost
    half = 1 << lost >> 1
    tail = rng.choice((0, half, half - 1, half + 1, rng.getrandbits(lost))) if lost > 1 else rng.getrandbits(lost)
    return INTEGER_BIT | (kept | max(tail, 0)) & INTEGER_BIT - 1


def _exponent(rng: random.Random) -> int:
    """Mostly near that of 1, where sums cancel; also at the limits of every format."""
    kind = rng.random()
    if kind < 0.6:
        return BIAS + rng.randrange(-3, 70)
    if kind < 0.9:
        limit = rng.choice((1, MAX_EXPONENT - 1, BIAS - 0x3FF, BIAS + 0x3FF, BIAS - 0x7F, BIAS + 0x7F, BIAS // 2, BIAS * 3 // 2))
        return min(max(limit + rng.randrange(-66, 67), 1), MAX_EXPONENT - 1)
    return rng.randrange(1, MAX_EXPONENT)


def extended(rng: random.Random) -> bytes:
    """80 bits of any class (SDM volume 1, tables 4-2, 8-3): also those that no operation gives."""
    sign, kind = rng.getrandbits(1) << 15, rng.random()
    exponent, significand = _exponent(rng), _significand(rng)
    if kind < 0.10:
        exponent, significand = 0, 0
    elif kind < 0.17:
        exponent, significand = MAX_EXPONENT, INTEGER_BIT
    elif kind < 0.24:
        exponent, significand = MAX_EXPONENT, significand | QUIET_BIT
    elif kind < 0.30:
        exponent, significand = MAX_EXPONENT, significand & ~QUIET_BIT | 1 << rng.randrange(62)
    elif kind < 0.36:
        exponent, significand = 0, significand & ~INTEGER_BIT or 1
    elif kind < 0.38:
        exponent = 0  # a pseudo-denormal
    elif kind < 0.43:
        exponent, significand = rng.choice((exponent, MAX_EXPONENT)), significand & ~INTEGER_BIT
    elif kind < 0.5:
        exponent, significand = BIAS, INTEGER_BIT
    elif kind < 0.52:
        return rng.randbytes(10)
    return struct.pack("<QH", significand, sign | exponent)


def _real(rng: random.Random, fraction_bits: int, exponent_bits: int) -> int:
    """A single or double of any class."""
    top, quiet = (1 << exponent_bits) - 1, 1 << fraction_bits - 1
    fraction = rng.choice((rng.getrandbits(fraction_bits), 0, 1, (1 << fraction_bits) - 1, 1 << rng.randrange(fraction_bits)))
    exponent, kind = (top >> 1) + rng.randrange(-3, 64), rng.random()
    if kind < 0.1:
        exponent = fraction = 0
    elif kind < 0.17:
        exponent, fraction = top, 0
    elif kind < 0.24:
        exponent, fraction = top, fraction | quiet
    elif kind < 0.30:
        exponent, fraction = top, fraction & ~quiet | 1
    elif kind < 0.38:
        exponent, fraction = 0, fraction or 1
    elif kind < 0.6:
        exponent = rng.randrange(top)
    return (rng.getrandbits(1) << exponent_bits | exponent) << fraction_bits | fraction


def _integer(rng: random.Random, bits: int) -> int:
    limit = 1 << bits - 1
    value = rng.choice((0, 1, -1, limit - 1, -limit, rng.getrandbits(bits), rng.getrandbits(bits) >> rng.randrange(bits)))
    return value & (1 << bits) - 1


def _environment(rng: random.Random, size: int) -> bytes:
    """What FLDENV or FRSTOR loads; the first 48 bytes of it, which is what a trial can place."""
    whole = image(rng)
    words = (*struct.unpack_from("<HH", whole), rng.choice((0, 0xFFFF, rng.getrandbits(16))))
    head = struct.pack("<HHH", *words) if size in (14, 94) else struct.pack("<III", *(word | rng.getrandbits(16) << 16 for word in words))
    pointers = rng.randbytes((14 if size in (14, 94) else 28) - len(head))
    registers = b"".join(extended(rng) for _ in range(3)) if size > 28 else b""
    return (head + pointers + registers)[:min(size, 48)]


def operand(rng: random.Random, family: str, size: int) -> bytes:
    """What an instruction of `family` finds in `size` bytes of memory."""
    if size == 10:
        return extended(rng)
    if size > 10:
        return _environment(rng, size)
    if family.startswith("fi") or size == 2:
        return _integer(rng, 8 * size).to_bytes(size, "little")
    return _real(rng, *((23, 8) if size == 4 else (52, 11))).to_bytes(size, "little")


def image(rng: random.Random) -> bytes:
    """An FXSAVE image without the XMM registers: any rounding and precision, masks, flags and tags.

    An exception is left pending now and then: then there are pointers to the instruction, too.
    """
    masks = ALL_MASKED if rng.random() < 0.5 else rng.getrandbits(6)
    control = rng.getrandbits(4) << 8 | 0x40 | masks
    status = rng.getrandbits(16) & 0x7F00
    if rng.random() < 0.3:
        status |= rng.getrandbits(7)
    if status & ~masks & ALL_MASKED:
        if rng.random() < 0.1:
            status |= SUMMARY_AND_BUSY
        else:
            status &= ~0x3F | masks
    tags = rng.choice((0xFF, 0xFF, 0xFF, 0, rng.getrandbits(8), 0xFF ^ 1 << rng.randrange(8), 1 << rng.randrange(8)))
    pointers = struct.pack("<HQQ", rng.getrandbits(11), rng.getrandbits(32), rng.getrandbits(32)) if status & 0x80 else bytes(18)
    head = struct.pack("<HHBx", control, status, tags) + pointers + struct.pack("<I4x", 0x1F80)
    return (head + b"".join(extended(rng) + bytes(6) for _ in range(REGISTERS))).ljust(FXSAVE_BYTES, b"\0")


def _place(register: bytes) -> int:
    """Where 80 bits are in the order of all numbers: neighbours differ by 1."""
    significand, high = struct.unpack("<QH", register)
    size = (high & MAX_EXPONENT) << 63 | significand & INTEGER_BIT - 1
    return -size if high >> 15 else size


def neighbours(one: bytes, other: bytes) -> bool:
    """Whether two numbers of 80 bits are the same or next to each other: as two that are both less than 1 ulp from the
    true value."""
    return abs(_place(one) - _place(other)) <= 1


def with_neighbours(family: str, expected: bytes, got: bytes) -> bytes:
    """The FXSAVE image `got` of a transcendental instruction, with what may differ from `expected` as it is there:
    results that are neighbours, and of inexact ones C1, which says whether they were rounded up.
    """
    if family not in TRANSCENDENTAL:
        return got
    image = bytearray(got)
    for at in (ST0, ST0 + 16):
        if neighbours(expected[at : at + 10], got[at : at + 10]):
            image[at : at + 10] = expected[at : at + 10]
    if expected[STATUS] & got[STATUS] & PE:
        image[STATUS + 1] = got[STATUS + 1] & ~C1 | expected[STATUS + 1] & C1
    return bytes(image)
