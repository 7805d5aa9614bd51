"""Every integer encoding that user code may run, in hvmx and on the processor itself, from the same states.

50 states for each row of the instruction table in each width, 1000 where HVMX_NIGHTLY is 1; HVMX_SEED varies them.
Both run in CPL 3 under the same descriptor tables, page rights and control registers. What must agree: the general
and segment registers, the instruction pointer, the flags that the table does not call undefined, FS and GS bases, the
memory, and of a fault the vector, the error code and CR2. Results of the x87's transcendental instructions may be
neighbours: processors are not exact, and not alike.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from oracle import xsave_trials
from oracle.amd import differs_on_amd, other_nans
from oracle.host import LACKING
from oracle.native import (
    BATCH,
    CODE64_SELECTOR,
    DATA,
    DATA_BYTES,
    FXSAVE_BYTES,
    NO_VECTOR,
    PAGE,
    REGISTERS_64,
    SEGMENTS,
    Native,
    NativeUnavailable,
    pristine,
)
from oracle.simulated import MEMORY_BYTES, Simulated
from oracle.trials import AREA_BYTES, Trial, pack, trials
from oracle.x87_trials import with_neighbours

from hvmx.isa import Row, rows

core = pytest.importorskip("hvmx.core.vcpu", reason="the core is not built")

STATES = 1000 if os.environ.get("HVMX_NIGHTLY") == "1" else 50
SEED = int(os.environ.get("HVMX_SEED", "1"))

NOT_COMPARED = {
    "cpuid": "says what this processor is",
    "rdtsc": "reads the host's clock",
    "rdtscp": "reads the host's clock",
    "rdpmc": "reads the host's counters, where the kernel lets it",
    "rdrand": "draws from the host's generator",
    "rdseed": "draws from the host's generator",
    "xgetbv": "shows the host kernel's XCR0",
    "syscall": "enters the host's kernel",
    "sysenter": "enters the host's kernel",
    "vmcall": "enters the hypervisor that the host may run under",
    "vmmcall": "enters the hypervisor that the host may run under",
    "int1": "a hypervisor that intercepts #DB may leave RIP behind",
    "sgdt": "shows the host kernel's tables, or what it makes up under UMIP",
    "sidt": "shows the host kernel's tables, or what it makes up under UMIP",
    "sldt": "shows the host kernel's tables, or what it makes up under UMIP",
    "str": "shows the host kernel's tables, or what it makes up under UMIP",
    "smsw": "shows the host kernel's CR0, or what it makes up under UMIP",
    "mov_from_tr": "of a 486 only: test_levels.py",
    "mov_to_tr": "of a 486 only: test_levels.py",
}
"""Families that user code may execute, but whose result is the host's own, and those that no 64-bit processor has."""

COMPARED = [(row, bits) for row in rows() if row.family not in NOT_COMPARED for bits in row.modes]
NOT_RESTORED_BY_FAULTS = frozenset(("pusha", "popa", "enter"))
"""A fault on the way may leave the pushes, or register loads, of before it: only RSP is put back for certain."""
MEMORY_NOT_RESTORED_BY_FAULTS = NOT_RESTORED_BY_FAULTS | {"call", "fstp80", "fbstp"}
"""CALL may have pushed before it sees that its target is bad; of ten bytes the first eight may have been stored."""
DATA_SEGMENTS = ("es", "ds", "fs", "gs")
"""The kernel's IRET, through which the native state comes, makes null selectors 0 (SDM, volume 2, IRET)."""
STORED_PIECEMEAL = frozenset(("fnstenv", "fnsave"))
"""Where a page in the middle of the image is not there, the pieces that processors store begin at different places."""
END_OF_USER_SPACE = (1 << 47) - 4096
UPPER_HALF = (1 << 64) - (1 << 47)
RF, PRESENT, GENERAL_PROTECTION, PAGE_FAULT = 1 << 16, 1, 13, 14
FS, GS = SEGMENTS.index("fs"), SEGMENTS.index("gs")
X87_CONTROL_AND_TAGS, X87_POINTERS, MXCSR, REGISTER_AREAS = slice(0, 5), slice(6, 24), slice(24, 28), slice(32, 416)
X87_STATUS, EXCEPTION_SUMMARY = 2, 0x80
AMD_MISALIGNED_MASK = 1 << 17
"""MXCSR.MM, which only AMD's processors have (APM volume 1, section 4.2.2)."""


@pytest.fixture(scope="module")
def native() -> Iterator[Native]:
    try:
        oracle = Native()
    except NativeUnavailable as reason:
        pytest.skip(str(reason))
    with oracle:
        yield oracle


@pytest.fixture(scope="module")
def simulated() -> dict[str, Simulated]:
    """The same processor twice: every instruction by its handler, and as the translator's code where it has some."""
    ways = {}
    for name, translate_after in (("interpreted", None), ("translated", 0)):
        cpu = core.Vcpu(memory_bytes=MEMORY_BYTES)
        cpu.translate_after = translate_after
        ways[name] = Simulated(cpu)
    return ways


def state(result: np.void) -> dict[str, Any]:
    """A native result under the names that the simulated one has."""
    named = {name: int(value) for name, value in zip(REGISTERS_64, result["gpr"], strict=True)}
    named |= {name: int(result["segments"][name]) for name in SEGMENTS}
    scalars = ("rip", "rflags", "fs_base", "gs_base", "vector", "error_code", "cr2")
    return named | {name: int(result[name]) for name in scalars}


def differences(trial: Trial, expected: dict[str, Any], got: dict[str, Any]) -> list[str]:
    """What differs, as text."""
    long_mode = trial.bits == 64 and expected["cs"] == CODE64_SELECTOR
    partial = trial.row.family in NOT_RESTORED_BY_FAULTS and expected["vector"] != NO_VECTOR
    if trial.size(trial.rm_operand) in AREA_BYTES:
        # Which byte is looked at first, and whether an operand wraps at 4 GiB, is the processor's own choice.
        distance = (expected["cr2"] - got["cr2"] + max(AREA_BYTES)) & 0xFFFFFFFF
        if got["cr2"] != expected["cr2"] and distance < 2 * max(AREA_BYTES):
            got["cr2"] = expected["cr2"]
            for side in (expected, got):
                side["error_code"] |= PRESENT  # one page of the operand may be missing, and another be read-only
    # AMD's processors refuse offsets that are not canonical if the linear address is in the upper half, even where the
    # base makes that canonical; Intel's look at the linear address alone (SDM vol. 1, 3.3.7.1).
    refused = (expected["vector"], got["vector"]) == (GENERAL_PROTECTION, PAGE_FAULT)
    if refused and trial.override in (FS, GS) and got["cr2"] >= UPPER_HALF:
        return []
    mask = (1 << 64) - 1 if long_mode else (1 << 32) - 1
    registers: tuple[str, ...] = REGISTERS_64 if long_mode else REGISTERS_64[:8]
    for side in (expected, got):
        for name in registers:
            side[name] &= mask
        for name in DATA_SEGMENTS:
            side[name] &= ~3 if side[name] <= 3 else ~0
        ignored = trial.undefined | RF if side["vector"] == NO_VECTOR else 0
        side["rflags"] &= ~ignored
        if trial.row.family in STORED_PIECEMEAL:
            side["cr2"] &= -PAGE
        if side["vector"] == PAGE_FAULT and side["cr2"] >= END_OF_USER_SPACE:
            side["error_code"] |= (
                PRESENT  # the kernel hides from user code which of its own addresses are mapped
            )
    registers = ("rsp",) if partial else registers
    names = (*registers, *SEGMENTS, "rip", "rflags", "fs_base", "gs_base", "vector", "error_code", "cr2")
    return [
        f"{name} is {got[name]:#x}, not {expected[name]:#x}" for name in names if expected[name] != got[name]
    ]


def with_sse_in_use(trial: Trial, expected: bytes, got: bytes) -> bytes:
    """DATA after an XSAVEOPT in hvmx, where the processor has taken XMM registers that are all zero for in use."""
    area = slice(trial.address - DATA, trial.address - DATA + xsave_trials.AREA_BYTES)
    state_bv = area.start + xsave_trials.HEADER_AT
    if area.start < 0 or area.stop > DATA_BYTES or not expected[state_bv] & ~got[state_bv] & xsave_trials.SSE:
        return got
    return got[: area.start] + xsave_trials.with_sse_in_use(got[area], trial.bits) + got[area.stop :]


def memory_differences(trial: Trial, changed: tuple[int, bytes], got: bytes) -> list[str]:
    """Where DATA differs, as text: `changed` is the native outcome, `got` all of DATA in hvmx."""
    expected = bytearray(pristine()[:DATA_BYTES])
    for address, content in trial.patches:
        expected[address - DATA : address - DATA + len(content)] = content
    offset, content = changed
    expected[offset : offset + len(content)] = content
    if trial.row.family == "xsaveopt":
        got = with_sse_in_use(trial, bytes(expected), got)
    for address, length in trial.unspecified:
        for at in range(max(address - DATA, 0), min(address - DATA + length, DATA_BYTES)):
            expected[at] = got[at]
    if expected == got:
        return []
    at = next(index for index in range(DATA_BYTES) if expected[index] != got[index])
    return [f"memory at {DATA + at:#x} is {got[at : at + 8].hex()}, not {expected[at : at + 8].hex()}"]


def floating_point_differences(row: Row, expected: bytes, got: bytes) -> list[str]:
    """The pointers to the last x87 instruction are compared after an exception: AMD's processors store none without.

    FXRSTOR cuts them to the linear addresses that the processor has.
    """
    parts = {"x87 control": X87_CONTROL_AND_TAGS, "mxcsr": MXCSR, "x87 and SSE registers": REGISTER_AREAS}
    if expected[X87_STATUS] & EXCEPTION_SUMMARY and row.is_x87:
        parts["x87 pointers"] = X87_POINTERS
    return [f"{name}: {got[part].hex()}, not {expected[part].hex()}"
            for name, part in parts.items() if expected[part] != got[part]]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "bits"), COMPARED, ids=[f"{row.text} {row.family} {bits}" for row, bits in COMPARED]
)
def test_encoding_does_what_it_does_on_the_processor(
    native: Native, simulated: dict[str, Simulated], row: Row, bits: int
) -> None:
    if row.feature in LACKING:
        pytest.skip(f"this processor has no {row.feature}: test_second_oracle.py compares it")
    chosen = trials(row, bits, STATES, SEED)
    assert len(chosen) <= BATCH
    cases = pack(chosen)
    images = np.frombuffer(b"".join(trial.fxsave or bytes(FXSAVE_BYTES) for trial in chosen), np.uint8)
    outcome = native.run(cases, images.reshape(-1, FXSAVE_BYTES))
    assert outcome.fxsave is not None
    wrong = []
    for index, trial in enumerate(chosen):
        image = outcome.fxsave[index].tobytes()
        if int.from_bytes(image[MXCSR], "little") & AMD_MISALIGNED_MASK:
            continue  # loaded, where Intel's processors give #GP
        for way, machine in simulated.items():
            got = machine.run(cases[index], *([trial.fxsave] if trial.fxsave else []))
            expected = state(outcome.states[index])
            if differs_on_amd(trial, expected, got):
                continue
            found = differences(trial, expected, got)
            if trial.row.family not in MEMORY_NOT_RESTORED_BY_FAULTS or got["vector"] == NO_VECTOR:
                found += memory_differences(trial, outcome.changed(index), got["data"])
            if trial.fxsave and not other_nans(trial, image, got["fxsave"]):
                found += floating_point_differences(row, image, with_neighbours(row.family, image, got["fxsave"]))
            if found:
                wrong.append(f"{trial.code.hex(' ')} (state {index}), {way}: " + "; ".join(found))
    assert not wrong, f"{len(wrong)} of {STATES} states, each in two ways, differ\n" + "\n".join(wrong[:10])


def test_every_encoding_is_compared_or_says_why_not() -> None:
    families = {row.family for row in rows()}
    assert set(NOT_COMPARED) <= families
    compared = {row.index for row, _ in COMPARED}
    assert {row.family for row in rows() if row.index not in compared} == set(NOT_COMPARED)


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_unprivileged_encodings_do_their_work_in_some_trial(native: Native, bits: int) -> None:
    """A generator whose states only fault would compare nothing but faults."""
    always_fault = {"ud0", "ud1", "ud2", "rsm", "int", "int3", "monitor", "mwait", "clac", "stac", "xsetbv"}
    always_fault |= {row.family for row in rows() if row.feature in LACKING}
    idle = [
        row
        for row, width in COMPARED
        if width == bits and not row.attributes & {"cpl0", "iopl"} and row.family not in always_fault
    ]
    for states, least in ((50, 5), (1000, 25)):  # most rows show it at once
        outcomes = [(row, native.run(pack(trials(row, bits, states, SEED)))) for row in idle]
        idle = [row for row, outcome in outcomes if (outcome.states["vector"] == NO_VECTOR).sum() < least]
    assert not [f"{row.text} {row.family}" for row in idle]
