"""What the x87's transcendental instructions are to give: values by mpmath, and how a value becomes 80 bits."""

from __future__ import annotations

from typing import Any

from mpmath import MPContext

from .x87 import C1, DOWN, INTEGER_BIT, NEAREST, OE, PE, UE, UP, Number

mp = MPContext()
mp.prec = 400
BIAS, LEAST, MOST = 0x3FFF, -16382, 16383
"""Of exponents: the bias, and what they are from and to in normal numbers."""
QUARTER = mp.mpf((0, 0x3243F6A8885A308D3, -65, 66))
"""pi/2 as the x87 has it, with 66 bits of significand (SDM volume 1, 8.3.8)."""
_BARELY, _SMALL = mp.mpf(2) ** -300, mp.mpf(2) ** -150
"""How far a value is put beside one that it is too near to for the precision; what makes it so near."""


def value(number: Number) -> Any:
    """The exact value of a finite number."""
    exponent = max(number.high & 0x7FFF, 1) - BIAS - 63
    return mp.ldexp(-number.significand if number.high >> 15 else number.significand, exponent)


def rounded(true: Any, rounding: int) -> tuple[Number, int]:
    """A nonzero value, and the exceptions and C1 with it: PE at any rate, even if it is exact."""
    man, exp = true.man_exp
    sign = int(true < 0)
    away = rounding == (DOWN if sign else UP)

    def cut(lowest: int) -> tuple[int, int]:
        """In units of 2^lowest, and whether rounded up."""
        if lowest <= exp:
            return man << exp - lowest, 0
        kept, rest, half = man >> lowest - exp, man & (1 << lowest - exp) - 1, 1 << lowest - exp - 1
        up = int(rest > half or rest == half and kept & 1) if rounding == NEAREST else int(away and rest > 0)
        return kept + up, up

    lowest = exp + man.bit_length() - 64
    kept, up = cut(lowest)
    if kept >> 64:
        kept, lowest = kept >> 1, lowest + 1
    status = PE
    if lowest + 63 < LEAST:
        lowest, status = LEAST - 63, status | UE
        kept, up = cut(lowest)
    high = lowest + 63 + BIAS if kept & INTEGER_BIT else 0
    if high > MOST + BIAS:
        up, status = int(rounding == NEAREST or away), status | OE
        high, kept = (0x7FFF, INTEGER_BIT) if up else (0x7FFE, 2 * INTEGER_BIT - 1)
    return Number(sign << 15 | high, kept), status | C1 * up


def _f2xm1(x: Any, y: Any) -> Any:
    return 2**x - 1 if abs(x) == 1 else mp.expm1(x * mp.ln2)


def _log2(x: Any) -> Any:
    man, exp = x.man_exp
    return mp.mpf(exp) if man == 1 else mp.log(x) / mp.ln2


def _fyl2x(x: Any, y: Any) -> Any:
    return y * _log2(x)


def _fyl2xp1(x: Any, y: Any) -> Any:
    if x * _SMALL > 1:
        return y * _log2(x) * (1 + _BARELY)
    return y * (_log2(1 + x) if abs(x) > 0.25 else mp.log1p(x) / mp.ln2)


def _fpatan(x: Any, y: Any) -> Any:
    return y / x * (1 - _BARELY) if abs(y) < x * _SMALL else mp.atan2(y, x)


def _turned(x: Any) -> tuple[Any, Any]:
    """Sine and cosine."""
    quarters = int(mp.nint(x / QUARTER))
    rest = x - quarters * QUARTER
    sine, cosine = mp.sin(rest), mp.cos(rest)
    return ((sine, cosine), (cosine, -sine), (-sine, -cosine), (-cosine, sine))[quarters % 4]


def _fsin(x: Any, y: Any) -> Any:
    return _turned(x)[0]


def _fcos(x: Any, y: Any) -> Any:
    return _turned(x)[1]


def _fptan(x: Any, y: Any) -> Any:
    sine, cosine = _turned(x)
    return sine / cosine


TRUE = {"f2xm1": _f2xm1, "fyl2x": _fyl2x, "fyl2xp1": _fyl2xp1, "fpatan": _fpatan, "fsin": _fsin, "fcos": _fcos,
        "fptan": _fptan}  # fmt: skip
"""The value, of ST(0) and ST(1), where it is not zero; of FPTAN that of the first result."""
