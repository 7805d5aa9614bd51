"""Where AMD's processors differ from Intel's, which hvmx follows, in what the manuals leave open or are silent about.

On such a host these trials are compared in nothing, or not in the part that differs; on any other in all.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from . import xsave_trials
from .native import NO_VECTOR
from .x87_trials import INTEGER_BIT, MAX_EXPONENT, ST0

_CPUINFO = Path("/proc/cpuinfo")
HOST_IS_AMD = "AuthenticAMD" in _CPUINFO.read_text() if _CPUINFO.exists() else False
X87_STORES = frozenset(("fst", "fstp", "fist", "fistp", "fisttp", "fstp80", "fbstp"))
APPROXIMATIONS = frozenset(("rcpps", "rcpss", "rsqrtps", "rsqrtss"))
SINES = frozenset(("fsin", "fsincos"))
FAR_TRANSFERS = frozenset(("call_far", "iret", "jmp_far", "ret_far"))
STRINGS = frozenset(("movs", "cmps", "stos", "lods", "scas"))
XMM_REGISTERS = slice(160, 416)
"""Of FXSAVE's image."""


def differs_on_amd(trial: Any, expected: dict[str, Any], got: dict[str, Any]) -> bool:
    """Whether an AMD host is no oracle for this trial: `expected` is its outcome, `got` that of hvmx."""
    if not HOST_IS_AMD:
        return False
    family = trial.row.family
    faults, ours = expected["vector"] != NO_VECTOR, got["vector"] != NO_VECTOR
    if family in STRINGS:
        # The first operand of CMPS is read first; a fault finds the flags of the last comparison; nothing is written to
        # the upper halves of registers before the first element.
        return faults and family in ("cmps", "scas") or trial.repeat and (trial.bits, trial.address_bits) == (64, 32)
    if family in X87_STORES:
        return faults and not ours  # memory is looked at even where an unmasked exception keeps the store from it
    if trial.row.is_mmx and "w" in trial.row.memory:
        return faults  # which leaves TOP alone
    if family in APPROXIMATIONS:
        return True
    if family in SINES and smallest_normal(trial.fxsave):
        return True  # its sine is rounded like others, and is denormal where that is toward zero
    if family in FAR_TRANSFERS:
        return trial.bits == 64 and faults and not ours  # of a 64-bit target in 32-bit code, which is not cut
    if family == "verw":
        return bool(trial.locked)  # which a Zen 4 ignores before VERW
    if family in ("bound", "pop_sreg"):
        return faults and expected["vector"] != got["vector"]  # the whole operand is looked at first
    if family in xsave_trials.FAMILIES:
        return faults and ours and expected["vector"] != got["vector"]  # alignment comes before all of the limits
    return family == "maskmovdqu" and faults  # the first eight bytes are looked at first


def smallest_normal(image: bytes) -> bool:
    """Whether an FXSAVE image has in ST(0) the smallest number that is not denormal, or a pseudo-denormal of its value."""
    significand, high = struct.unpack_from("<QH", image, ST0)
    return bool(significand == INTEGER_BIT and high & MAX_EXPONENT <= 1)


def other_nans(trial: Any, expected: bytes, got: bytes) -> bool:
    """Whether two FXSAVE images differ in which NaN a dot product has: AMD's processors add in another order."""
    if not HOST_IS_AMD or trial.row.family not in ("dppd", "dpps"):
        return False
    kind, bits = (np.float32, np.uint32) if trial.row.family == "dpps" else (np.float64, np.uint64)
    theirs, ours = (np.frombuffer(image[XMM_REGISTERS], kind) for image in (expected, got))
    differing = theirs.view(bits) != ours.view(bits)
    return bool(np.isnan(theirs[differing]).all() and np.isnan(ours[differing]).all())
