"""Pairs of strings, and lengths of them, in which the comparisons of SSE4.2 find something (SDM volume 2, section 4.1)."""

from __future__ import annotations

import random

from .integers import integer

VECTOR_BYTES = 16
WORDS, RANGES = 1, 1
"""Bit 0 of the control: elements are words; bits 3:2: the first string holds ranges."""


def _string(rng: random.Random, count: int, alphabet: list[int]) -> list[int]:
    """Few different elements, so that they meet; none, one or several of them zero."""
    elements = [rng.choice(alphabet) for _ in range(count)]
    kind = rng.random()
    if kind < 0.5:
        elements[rng.randrange(count)] = 0
    elif kind < 0.6:
        elements = [element if rng.random() < 0.8 else 0 for element in elements]
    return elements


def pair(rng: random.Random, control: int) -> tuple[bytes, bytes]:
    """The first and the second string, by the comparison that the control asks for."""
    size = 2 if control & WORDS else 1
    count, top = VECTOR_BYTES // size, 1 << 8 * size
    near = rng.choice((1, 0x61, top // 2 - 2, top - 4, rng.randrange(1, top)))  # also where signs change
    alphabet = [(near + distance) % top or 1 for distance in range(rng.choice((1, 2, 4, 8)))]
    first, second = _string(rng, count, alphabet), _string(rng, count, alphabet)
    if control >> 2 & 3 == RANGES and rng.random() < 0.5:
        first = [element for low in range(0, count, 2) for element in sorted(first[low : low + 2])]
    kind = rng.random()
    if kind < 0.15:
        second = list(first)
    elif kind < 0.4:  # the first, or its beginning, stands in the second
        place = rng.randrange(count)
        second = (second[:place] + first[: rng.randrange(1, count + 1)] + second[place:])[:count]
    return (
        b"".join(element.to_bytes(size, "little") for element in first),
        b"".join(element.to_bytes(size, "little") for element in second),
    )


def length(rng: random.Random) -> int:
    """64 bits of a register: within a vector or about its end, of both signs and both widths, or any."""
    kind = rng.random()
    if kind < 0.6:
        value = rng.randrange(18)
    elif kind < 0.75:
        value = rng.choice((7, 8, 9, 15, 16, 17))
    else:
        value = integer(rng)
    if rng.random() < 0.3:
        value = -value
    if rng.random() < 0.2:  # what is in the upper half counts for 64 bits only
        value = value & 0xFFFF_FFFF | rng.getrandbits(32) << 32
    return value & (1 << 64) - 1
