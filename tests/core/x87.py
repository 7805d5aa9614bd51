"""Many operands for one x87 instruction, in one run of a bare processor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from hvmx.core.vcpu import Vcpu

from .machine import CODE, assemble

INTEGER_BIT = 1 << 63
IE, DE, ZE, OE, UE, PE, C1, C2 = 1, 2, 4, 8, 16, 32, 1 << 9, 1 << 10
ALL_MASKED = 0x3F
NEAREST, DOWN, UP, TOWARD_ZERO = range(4)
"""RC, the rounding control (SDM volume 1, 4.8.4), which is in bits 10 and 11 of the control word."""

_TRIALS, _STRIDE, _HALTED = 0x10000, 160, 2
_REGISTER = [("significand", "<u8"), ("high", "<u2")]
_TRIAL = np.dtype({
    "names": ["control", "st1", "st0", "status", "results"],
    "formats": ["<u2", _REGISTER, _REGISTER, "<u2", (_REGISTER, 2)],
    "offsets": [0, 16, 32, 48 + 4, 48 + 28],
    "itemsize": _STRIDE,
})  # fmt: skip
"""What goes in, and at 48 the image that FNSAVE makes of what comes out."""
_SOURCE = """
next:
    fninit
    fldcw [esi]
    fld tbyte ptr [esi + 16]
    fld tbyte ptr [esi + 32]
    {name}
    fnsave [esi + 48]
    add esi, {stride}
    dec ecx
    jnz next
    hlt
"""


class Number(NamedTuple):
    """80 bits: sign and exponent, then the significand."""

    high: int
    significand: int

    def __repr__(self) -> str:
        return f"{self.high:04x}:{self.significand:016x}"


class Trial(NamedTuple):
    control: int
    st0: Number
    st1: Number


class Outcome(NamedTuple):
    """The exceptions, C1 and C2; and ST(0) and ST(1) after the instruction."""

    status: int
    st0: Number
    st1: Number


def control(rounding: int, masks: int = ALL_MASKED) -> int:
    """A control word, with extended precision."""
    return 0x340 | rounding << 10 | masks


@cache
def _code(name: str) -> bytes:
    return assemble(32, [_SOURCE.format(name=name, stride=_STRIDE)])[0]


def execute(name: str, trials: Sequence[Trial]) -> list[Outcome]:
    """What the instruction does with each of the operands."""
    area = np.zeros(len(trials), _TRIAL)
    area["control"] = [trial.control for trial in trials]
    for register in ("st0", "st1"):
        area[register]["high"] = [getattr(trial, register).high for trial in trials]
        area[register]["significand"] = [getattr(trial, register).significand for trial in trials]
    cpu = Vcpu(memory_bytes=-(-(_TRIALS + area.nbytes) // 4096) * 4096)
    cpu.cr0 = 0x31  # NE, ET, PE
    for segment, rights in (("cs", 0xC09B), ("ds", 0xC093), ("ss", 0xC093)):
        cpu.set_segment(segment, 8, 0, 0xFFFFFFFF, rights)
    cpu.write(CODE, _code(name))
    cpu.write(_TRIALS, area.tobytes())
    cpu.rip, cpu.rsi, cpu.rcx = CODE, _TRIALS, len(trials)
    cpu.set_handler(_HALTED, lambda vcpu, exit: None)
    assert cpu.run(cycles=10_000 * len(trials)) == _HALTED
    done = np.frombuffer(cpu.read(_TRIALS, area.nbytes), _TRIAL)
    status = (done["status"] & (ALL_MASKED | C1 | C2)).tolist()
    highs, significands = done["results"]["high"].tolist(), done["results"]["significand"].tolist()
    return [Outcome(flags, *map(Number, high, significand))
            for flags, high, significand in zip(status, highs, significands, strict=True)]  # fmt: skip
