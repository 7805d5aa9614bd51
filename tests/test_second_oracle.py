"""Encodings that not every 64-bit processor has, in hvmx and in Unicorn, from the same states.

What the processor that the tests run on lacks is compared here alone; the rest is in test_against_processor.py, too.
Compared are the general registers, the arithmetic flags, the instruction pointer, memory, and the x87 and XMM registers
of cases that run to their end in hvmx. MXCSR is not: Unicorn does not keep its flags.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from oracle.host import IN_EVERY_64_BIT_PROCESSOR, LACKING
from oracle.native import DATA, DATA_BYTES, NO_VECTOR, REGISTERS_64
from oracle.simulated import MEMORY_BYTES, Simulated
from oracle.trials import RAX, RDX, Trial, pack, trials

from hvmx.isa import Row, rows

core = pytest.importorskip("hvmx.core.vcpu", reason="the core is not built")
second_oracle = pytest.importorskip("oracle.second", reason="Unicorn is not installed")

STATES = 1000 if os.environ.get("HVMX_NIGHTLY") == "1" else 50
SEED = int(os.environ.get("HVMX_SEED", "1"))
LEAST_COMPARED = STATES // 5
"""How many of an encoding's trials must have been compared. The others fault, or are in `beyond_unicorn`."""

NOT_COMPARED = {
    "lahf": "with REX, Unicorn takes SPL for AH",
    "sahf": "with REX, Unicorn takes SPL for AH",
    "xsave": "Unicorn leaves FOP and what is reserved in the image alone, and has all components in use",
    "xsaveopt": "as xsave",
    "xgetbv": "CPUID of hvmx has not the ECX = 1 of Unicorn's; XCR0 itself has its own test",
    "xsetbv": "privileged",
    "clac": "#UD in ring 3",
    "stac": "#UD in ring 3",
    "invpcid": "privileged",
    "mov_from_tr": "privileged, and of a 486 only",
    "mov_to_tr": "privileged, and of a 486 only",
    "fisttp": "Unicorn knows few of the x87's exceptions",
    "dpps": "Unicorn adds the products in another order",
    "dppd": "Unicorn adds the products in another order",
    "pcmpestrm64": "Unicorn takes the low halves of the lengths",
    "pcmpestri64": "Unicorn takes the low halves of the lengths",
    "rdtscp": "reads the host's clock",
    "rdrand": "draws from the host's generator",
    "rdseed": "draws from the host's generator",
}
"""Families beyond every processor's, of which Unicorn is no judge."""

BEYOND = [row for row in rows() if row.feature not in IN_EVERY_64_BIT_PROCESSOR]
COMPARED = [row for row in BEYOND if row.family not in NOT_COMPARED]
HORIZONTAL = frozenset(["phaddw", "phaddd", "phaddsw", "phsubw", "phsubd", "phsubsw"])
STRINGS = frozenset(["pcmpestri", "pcmpestrm", "pcmpistri", "pcmpistrm"])
EQUAL_ORDERED = 3 << 2
"""Of their immediate: a search for a string."""
SUMS = frozenset(["haddps", "haddpd", "hsubps", "hsubpd", "addsubps", "addsubpd"])
"""Of two NaNs, Unicorn takes that with the larger fraction, as an x87 would: any NaN is as good."""
LEAST_INTEGER = 0x80000000
ARITHMETIC_FLAGS = 0x8D5
MXCSR_FTZ = 1 << 15
X87_STATUS, ST0, XMM = 3, 32, slice(160, 416)
"""Places in an FXSAVE image: the byte of FSW with TOP, and registers."""


def same_register(trial: Trial) -> bool:
    """Whether ModRM names one register twice; of MMX registers there are eight."""
    registers = 8 if trial.row.operands[0].startswith("P") else 16
    return trial.rm % registers == trial.reg % registers


def beyond_unicorn(trial: Trial) -> bool:
    """Whether Unicorn is known to be wrong about the encoding or the state."""
    row = trial.row
    operand_size = row.family in ("crc32", "popcnt")
    if trial.rex & 4 and row.operands[:1] and row.operands[0].startswith("P"):
        return True  # it lets REX.R choose among more MMX registers than there are
    if 0x66 in trial.prefixes and row.prefix in ("F2", "F3") and not operand_size:
        return True  # it takes 66 for the mandatory prefix
    if 0x66 in trial.prefixes and trial.rex & 8 and row.family == "popcnt":
        return True  # it lets 66 go before REX.W
    if row.family in HORIZONTAL and trial.memory_form is None and same_register(trial):
        return True  # it writes the destination while it still reads the source
    if row.family in ("pcmpestri", "pcmpestrm"):
        if trial.rex & 8:
            return True  # as pcmpestri64 and pcmpestrm64
        if LEAST_INTEGER in (trial.gpr[RAX] & 0xFFFFFFFF, trial.gpr[RDX] & 0xFFFFFFFF):
            return True  # it does not survive a length whose absolute value is negative
    if row.family in STRINGS and trial.code[-1] & EQUAL_ORDERED == EQUAL_ORDERED:
        return True  # it loses matches at the end of the text
    # It flushes other results than a processor does.
    return trial.fxsave is not None and bool(int.from_bytes(trial.fxsave[24:28], "little") & MXCSR_FTZ)


def differences(trial: Trial, expected: dict[str, Any], got: dict[str, Any]) -> list[str]:
    """What differs, as text."""
    for side in (expected, got):
        side["rflags"] &= ARITHMETIC_FLAGS & ~trial.undefined
    found = [f"{name} is {got[name]:#x}, not {expected[name]:#x}"
             for name in (*REGISTERS_64, "rip", "rflags") if got[name] != expected[name]]  # fmt: skip
    if got["data"] != expected["data"]:
        at = next(at for at in range(DATA_BYTES) if got["data"][at] != expected["data"][at])
        found.append(f"memory at {DATA + at:#x} is {got['data'][at]:#x}, not {expected['data'][at]:#x}")
    if trial.fxsave is None:
        return found
    for name, take in (("MMX registers", mmx), ("XMM registers", lambda image: without_payloads(trial.row, image[XMM]))):
        ours, theirs = take(got["fxsave"]), take(expected["fxsave"])
        if ours != theirs:
            found.append(f"{name}: {ours.hex()}, not {theirs.hex()}")
    return found


def mmx(image: bytes) -> bytes:
    """MM0 to MM7, which an FXSAVE image has from the top of the x87 stack on; Unicorn does not put that to 0."""
    top = image[X87_STATUS] >> 3 & 7
    places = [ST0 + 16 * ((number - top) % 8) for number in range(8)]
    return b"".join(image[place : place + 8] for place in places)


def without_payloads(row: Row, registers: bytes) -> bytes:
    """The contents of registers, with one and the same NaN in place of all where `SUMS` says so."""
    if row.family not in SUMS:
        return registers
    numbers = np.frombuffer(registers, np.float32 if row.family.endswith("ps") else np.float64).copy()
    numbers[np.isnan(numbers)] = np.nan
    return numbers.tobytes()


@pytest.fixture(scope="module")
def simulated() -> Simulated:
    return Simulated(core.Vcpu(memory_bytes=MEMORY_BYTES))


@pytest.fixture
def second() -> Any:
    return second_oracle.Second()


@pytest.mark.parametrize("row", COMPARED, ids=[f"{row.text} {row.family}" for row in COMPARED])
def test_encoding_does_what_it_does_in_unicorn(simulated: Simulated, second: Any, row: Row) -> None:
    compared, wrong = 0, []
    for trial in trials(row, 64, STATES, SEED):
        case, image = pack([trial])[0], [trial.fxsave] if trial.fxsave else []
        got = simulated.run(case, *image)
        if got["vector"] != NO_VECTOR or beyond_unicorn(trial):
            continue
        try:
            expected = second.run(case, *image)
        except second_oracle.Refused:
            continue
        compared += 1
        found = differences(trial, expected, got)
        if found:
            wrong.append(f"{trial.code.hex(' ')}: " + "; ".join(found))
    assert not wrong, f"{len(wrong)} of {compared} states differ\n" + "\n".join(wrong[:10])
    assert compared >= LEAST_COMPARED


def test_a_wrong_result_would_be_found(simulated: Simulated, second: Any) -> None:
    row = next(row for row in COMPARED if row.family == "aesenc")
    trial = next(trial for trial in trials(row, 64, STATES, SEED) if trial.memory_form is None and not beyond_unicorn(trial))
    case = pack([trial])[0]
    assert trial.fxsave is not None
    expected = second.run(case, trial.fxsave)
    for name, wrong in (
        ("rip", expected["rip"] + 1), ("data", b"\0" * DATA_BYTES), ("fxsave", expected["fxsave"][:160] + bytes(352)),
    ):  # fmt: skip
        assert differences(trial, dict(expected), {**expected, name: wrong})
    assert not differences(trial, expected, simulated.run(case, trial.fxsave))


def test_what_this_processor_lacks_is_compared_here_or_says_why_not() -> None:
    compared = {row.feature for row in COMPARED}
    without = {row.feature for row in BEYOND} - compared
    assert LACKING <= compared | without
    assert set(NOT_COMPARED) == {row.family for row in BEYOND if row not in COMPARED}
