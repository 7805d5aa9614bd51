"""What trials of XSAVE, XSAVEOPT and XRSTOR need: an area with a header, a request for the state that hvmx has too.

The host's XCR0 has more components than hvmx's, x87 and SSE (bits 0 and 1), so nothing above those is asked for, and
the header of an area that is restored names none that only the host has.
"""

from __future__ import annotations

import random
import struct

AREA_BYTES, HEADER_AT, MXCSR_AT, MXCSR_MASK_AT = 576, 512, 24, 28
FAMILIES = frozenset(("xsave", "xsaveopt", "xrstor"))
NO_COMPONENT_YET = range(20, 61)
"""Bits of XCR0 that no processor has (SDM volume 1, 13.1); 62 was AMD's LWP."""
SSE = 2
"""Its bit in XCR0 and XSTATE_BV."""
_INITIAL_X87 = struct.pack("<HHB19x", 0x37F, 0, 0)
_X87_CONTROL, _X87_REGISTERS, _XMM = slice(0, 24), slice(32, 160), slice(160, 416)


def request(rng: random.Random) -> tuple[int, int]:
    """EAX and EDX."""
    return rng.choice((3, 3, 3, 1, 2, 0)), rng.choice((0, 0, rng.getrandbits(28)))


def partly_initial(image: bytes, rng: random.Random) -> bytes:
    """An FXSAVE image, with the x87 or the XMM registers in their initial configuration sometimes."""
    made = bytearray(image)
    if rng.random() < 0.3:
        made[_X87_CONTROL] = _INITIAL_X87
        made[_X87_REGISTERS] = bytes(128)
    if rng.random() < 0.3:
        made[_XMM] = bytes(256)
    return bytes(made)


def header(rng: random.Random) -> bytes:
    """XSTATE_BV, XCOMP_BV and what is reserved after them, of the standard format: valid in three of four."""
    state, kind = rng.randrange(4), rng.random()
    wrong = 1 << rng.choice(NO_COMPONENT_YET)
    words = (state | wrong, 0, 0) if kind < 0.1 else (state, wrong, 0) if kind < 0.17 else (state, 0, wrong)
    return struct.pack("<3Q", *(words if kind < 0.25 else (state, 0, 0)))


def mxcsr(rng: random.Random) -> bytes:
    """MXCSR of an area: mostly without its reserved bits."""
    return struct.pack("<I", rng.getrandbits(16 if rng.random() < 0.85 else 32))


def with_sse_in_use(area: bytes, bits: int) -> bytes:
    """What XSAVEOPT leaves where the processor takes XMM registers that are all zero for in use.

    It may (SDM volume 1, 13.6: XINUSE), and does where the kernel has put them back at the wrong moment.
    """
    made = bytearray(area)
    made[_XMM.start : _XMM.start + 16 * (16 if bits == 64 else 8)] = bytes(16 * (16 if bits == 64 else 8))
    made[HEADER_AT] |= SSE
    return bytes(made)
