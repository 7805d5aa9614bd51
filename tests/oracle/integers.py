"""Integers that tell a right result from a wrong one."""

from __future__ import annotations

import random

_MASK64 = (1 << 64) - 1
_BOUNDARIES = tuple(
    value & _MASK64
    for width in (8, 16, 32, 64)
    for value in (
        1 << (width - 1),
        (1 << (width - 1)) - 1,
        (1 << width) - 1,
        1 << (width - 1) | 1,
        -(1 << (width - 1)),
    )
)


def integer(rng: random.Random) -> int:
    """A 64-bit number; boundary values are frequent."""
    kind = rng.random()
    if kind < 0.45:
        return rng.getrandbits(64)
    if kind < 0.65:
        return rng.choice(_BOUNDARIES)
    if kind < 0.8:
        return rng.choice((0, 1, 2, _MASK64, _MASK64 - 1))
    return rng.getrandbits(rng.choice((4, 8, 16, 31, 32, 33, 63)))


def signed(value: int, bits: int) -> int:
    """The low `bits` of a number, as a signed one."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value
