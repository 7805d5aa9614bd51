"""States of the SSE unit, and operands for it, that tell a right result from a wrong one."""

from __future__ import annotations

import random
import struct

from . import x87_trials
from .integers import integer
from .native import FXSAVE_BYTES


def _peculiar(rng: random.Random, exponent_bits: int, fraction_bits: int) -> int:
    """A floating-point number in IEEE 754's encoding: zeros, infinities, NaNs of both kinds with payloads, denormals,
    the ends of the ranges, integers and halves of them, at the edges of the integer formats too; or any number."""
    bias, kind = (1 << exponent_bits - 1) - 1, rng.random()
    top, fraction = 2 * bias + 1, rng.getrandbits(fraction_bits)
    if rng.random() < 0.5:  # few bits set, or nearly all: halfway cases, exact results
        fraction = (rng.getrandbits(3) << rng.randrange(fraction_bits - 2)) ^ rng.choice((0, (1 << fraction_bits) - 1))
    if kind < 0.25:
        exponent, fraction = rng.choice(((0, 0), (top, 0), (top, fraction), (0, fraction), (1, 0), (top - 1, fraction)))
    elif kind < 0.4:
        exponent = rng.choice((0, 1, 2, bias // 2, bias + bias // 2, top - 1, top - 2))
    elif kind < 0.8:
        exponent = bias + rng.choice((-1, 0, 1, 2, 15, 30, 31, 32, 52, 62, 63, 64, rng.randrange(-60, 70)))
    else:
        exponent = rng.randrange(top + 1)
    return rng.getrandbits(1) << exponent_bits + fraction_bits | exponent << fraction_bits | fraction


def vector(rng: random.Random) -> bytes:
    """16 bytes: floating-point numbers of one format, among which the peculiar ones are frequent, or integers."""
    kind = rng.random()
    if kind < 0.4:
        return struct.pack("<4I", *(_peculiar(rng, 8, 23) for _ in range(4)))
    if kind < 0.8:
        return struct.pack("<2Q", *(_peculiar(rng, 11, 52) for _ in range(2)))
    return struct.pack("<2Q", integer(rng), integer(rng))


def image(rng: random.Random, computes: bool) -> bytes:
    """An FXSAVE image with none pending of the x87's exceptions and no pointers to an instruction.

    All exceptions are masked, but for an instruction that computes with XMM registers, where some are not in one trial
    of four. In one of four MXCSR is as it comes up, but for flags.
    """
    status, tags, mxcsr = rng.getrandbits(16) & 0x7F00, rng.getrandbits(8), rng.getrandbits(16)
    if not computes or rng.random() < 0.75:
        mxcsr |= 0x1F80
    if rng.random() < 0.25:
        mxcsr = mxcsr & 0x3F | 0x1F80
    head = struct.pack("<HHB19xI4x", rng.getrandbits(16) & 0x0F00 | 0x7F, status, tags, mxcsr)
    stack = b"".join(rng.randbytes(10) + bytes(6) for _ in range(8))
    vectors = b"".join(vector(rng) for _ in range(16)) if computes else rng.randbytes(16 * 16)
    return (head + stack + vectors).ljust(FXSAVE_BYTES, b"\0")


def mmx_image(rng: random.Random) -> bytes:
    """The same for an instruction on MMX registers: any x87 state, now and then with an exception pending."""
    x87, sse = x87_trials.image(rng), image(rng, True)
    registers = b"".join(mmx_vector(rng) + rng.choice((b"\xff\xff", rng.randbytes(2))) + bytes(6) for _ in range(8))
    return x87[:24] + sse[24:32] + registers + sse[160:]


def mmx_vector(rng: random.Random) -> bytes:
    """8 bytes: floating-point numbers, or integers, among which are the counts of shifts."""
    return vector(rng)[:8] if rng.random() < 0.5 else struct.pack("<Q", integer(rng))
