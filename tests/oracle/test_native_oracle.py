"""The native oracle against answers that the manuals give."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from .native import (
    BATCH,
    BY_TRAP,
    CODE,
    CODE32_SELECTOR,
    CODE64_SELECTOR,
    CODE_BYTES,
    CONSTANT,
    DATA,
    DATA_SELECTOR,
    FXSAVE_BYTES,
    GPR_INDEX,
    NO_VECTOR,
    PAGE,
    SYSTEM_CALL,
    Native,
    NativeFailure,
    NativeUnavailable,
    case,
    ldt_selector,
    pristine,
)

CF, PF, AF, ZF, SF, TF, DF, OF = 0x1, 0x4, 0x10, 0x40, 0x80, 0x100, 0x400, 0x800
NT, RF, AC, ID = 0x4000, 0x10000, 0x40000, 0x200000
DE, DB, BP, OVERFLOW, BR, UD, NP, SS, GP, PAGE_FAULT, AC_VECTOR = 0, 1, 3, 4, 5, 6, 11, 12, 13, 14, 17
AT = CODE + 64


@pytest.fixture(scope="module")
def native() -> Iterator[Native]:
    try:
        oracle = Native()
    except NativeUnavailable as reason:
        pytest.skip(str(reason))
    with oracle:
        yield oracle


class After:
    """The state after one case, by register name."""

    def __init__(self, native: Native, code: bytes, bits: int = 64, **state: Any) -> None:
        outcome = native.run(np.array([case(code, bits, **state)]))
        self._state = outcome.states[0]
        self.offset, self.changed = outcome.changed(0)

    def __getattr__(self, name: str) -> int:
        if name in GPR_INDEX:
            return int(self._state["gpr"][GPR_INDEX[name]])
        return int(self._state[name] if name in self._state.dtype.names else self._state["segments"][name])


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_addition_sets_result_flags_and_instruction_pointer(native: Native, bits: int) -> None:
    after = After(native, b"\x00\xd8", bits, rax=0x7F, rbx=1)
    assert after.vector == NO_VECTOR
    assert after.rax == 0x80
    assert after.rflags & (CF | PF | AF | ZF | SF | OF) == AF | SF | OF
    assert after.rip == (66 if bits == 16 else AT + 2)


def test_all_registers_go_in_and_come_out(native: Native) -> None:
    values = {name: 0x0101_0101_0101_0101 * (index + 1) for name, index in GPR_INDEX.items()}
    after = After(native, b"\x90", **values)
    assert {name: getattr(after, name) for name in values} == values


def test_flags_that_only_popf_can_set_go_in_and_do_not_stay(native: Native) -> None:
    assert After(native, b"\x90", rflags=0x202 | NT | ID | DF).rflags == 0x202 | NT | ID | DF
    assert After(native, b"\x90").rflags == 0x202


def test_pushf_stores_no_trap_flag(native: Native) -> None:
    after = After(native, b"\x9c", rflags=0x202 | CF)
    assert (after.offset, after.changed[:3]) == (PAGE - 8, b"\x03\x02\x00")


def test_memory_changes_are_reported_and_undone(native: Native) -> None:
    old = pristine()[5:9]
    for _ in range(2):
        after = After(native, b"\xf7\x10", rax=DATA + 5)
        assert (after.offset, after.changed) == (5, bytes(byte ^ 0xFF for byte in old))


def test_patches_are_seen_and_undone(native: Native) -> None:
    patches = ((DATA + 16, b"\x11\x22\x33\x44"), (DATA + 32, b"\x55\x66"))
    assert After(native, b"\x8b\x00", rax=DATA + 16, patches=patches).rax == 0x44332211
    assert After(native, b"\x0f\xb7\x00", rax=DATA + 32, patches=patches).rax == 0x6655
    assert After(native, b"\x8b\x00", rax=DATA + 16).rax == int.from_bytes(pristine()[16:20], "little")


@pytest.mark.parametrize(
    ("code", "address", "error_code"),
    [
        (b"\x8b\x18", 0x1000, 4),
        (b"\x89\x18", 0x1000, 6),
        (b"\x89\x18", CONSTANT, 7),
        (b"\x89\x18", CODE, 7),
    ],
    ids=["read", "write", "write to the read-only page", "write to the code page"],
)
@pytest.mark.parametrize("bits", [32, 64])
def test_page_faults_have_their_error_code_and_address(
    native: Native, bits: int, code: bytes, address: int, error_code: int
) -> None:
    after = After(native, code, bits, rax=address)
    assert (after.vector, after.error_code, after.cr2, after.rip) == (PAGE_FAULT, error_code, address, AT)
    assert after.rflags == 0x202 | RF


def test_a_fault_on_the_second_page_of_an_access_reports_that_page(native: Native) -> None:
    after = After(native, b"\x89\x18", rax=CONSTANT - 2)
    assert (after.vector, after.cr2, after.changed) == (PAGE_FAULT, CONSTANT, b"")


def test_an_instruction_that_runs_into_an_unmapped_page_faults_on_fetch(native: Native) -> None:
    after = After(native, b"\x8b\x05", at=CODE + CODE_BYTES - 2)
    assert (after.vector, after.error_code, after.cr2) == (PAGE_FAULT, 0x14, CODE + CODE_BYTES)
    assert After(native, b"\x90", at=CODE + CODE_BYTES - 1, return_by=BY_TRAP).rip == CODE + CODE_BYTES


@pytest.mark.parametrize(
    ("code", "bits", "state", "vector"),
    [
        ("f7f0", 64, {"rax": 0}, DE),
        ("cc", 64, {"return_by": BY_TRAP}, BP),
        ("ce", 32, {"rflags": 0x202 | OF}, OVERFLOW),
        ("6200", 32, {"rax": DATA, "patches": ((DATA, b"\x01\x00\x00\x00\x01\x00\x00\x00"),)}, BR),
        ("0f0b", 64, {}, UD),
        ("06", 64, {}, UD),
        ("8ed8", 32, {"rax": ldt_selector("not_present")}, NP),
        ("50", 64, {"rsp": 1 << 63}, SS),
        ("f4", 64, {}, GP),
        ("8b00", 64, {"rax": DATA + 1, "rflags": 0x202 | AC}, AC_VECTOR),
    ],
    ids=["#DE", "#BP", "#OF", "#BR", "#UD", "#UD in 64-bit mode", "#NP", "#SS", "#GP", "#AC"],
)
def test_each_fault_has_its_vector(
    native: Native, code: str, bits: int, state: dict[str, Any], vector: int
) -> None:
    assert After(native, bytes.fromhex(code), bits, **state).vector == vector


def test_a_selector_beyond_the_table_is_the_error_code(native: Native) -> None:
    after = After(native, b"\x8e\xd8", 32, rax=0xFFF7)
    assert (after.vector, after.error_code) == (GP, 0xFFF4)


@pytest.mark.parametrize("bits", [32, 64])
def test_branches_may_go_anywhere(native: Native, bits: int) -> None:
    assert After(native, b"\xeb\x10", bits, return_by=BY_TRAP).rip == AT + 0x12
    assert After(native, b"\xff\xe0", bits, rax=0x4000_0000, return_by=BY_TRAP).rip == 0x4000_0000
    called = After(native, b"\xff\xd0", bits, rax=DATA, return_by=BY_TRAP)
    width = bits // 8
    assert called.rip == DATA
    assert called.rsp == DATA + PAGE - width
    assert (AT + 2).to_bytes(width, "little").startswith(called.changed)
    assert called.offset == PAGE - width


def test_far_jumps_change_the_mode(native: Native) -> None:
    far = b"\xea" + struct.pack("<IH", AT + 0x20, CODE64_SELECTOR)
    after = After(native, far, 32, return_by=BY_TRAP)
    assert (after.vector, after.rip, after.cs) == (NO_VECTOR, AT + 0x20, CODE64_SELECTOR)
    pointer = ((DATA, struct.pack("<IH", AT + 0x20, CODE32_SELECTOR)),)
    after = After(native, b"\xff\x28", rax=DATA, patches=pointer, return_by=BY_TRAP)
    assert (after.vector, after.rip, after.cs) == (NO_VECTOR, AT + 0x20, CODE32_SELECTOR)


def test_loads_of_ss_hold_back_nothing_of_the_oracle(native: Native) -> None:
    after = After(native, b"\x8e\xd0", 32, rax=ldt_selector("data"))
    assert (after.vector, after.rip, after.ss) == (NO_VECTOR, AT + 2, ldt_selector("data"))
    assert After(native, b"\x90").ss == DATA_SELECTOR


def test_repeated_strings_stop_precisely_at_a_fault(native: Native) -> None:
    after = After(native, b"\xf3\xa4", rcx=32, rsi=DATA, rdi=CONSTANT - 8)
    assert (after.vector, after.error_code, after.cr2) == (PAGE_FAULT, 7, CONSTANT)
    assert (after.rcx, after.rsi, after.rdi, after.rip) == (24, DATA + 8, CONSTANT, AT)
    assert pristine()[:8].startswith(after.changed)
    done = After(native, b"\xf3\xaa", 32, rcx=100, rax=1, rdi=DATA + 200, rflags=0x202 | DF)
    assert (done.vector, done.rcx, done.rdi, done.rip) == (NO_VECTOR, 0, DATA + 100, AT + 2)
    assert (done.offset, done.changed) == (101, b"\x01" * 100)


def test_fs_and_gs_bases_go_in_and_come_out(native: Native) -> None:
    after = After(native, bytes.fromhex("64 67 8b 00"), rax=8, fs_base=DATA, gs_base=DATA + 256)
    assert after.rax == int.from_bytes(pristine()[8:12], "little")
    assert (after.fs_base, after.gs_base) == (DATA, DATA + 256)
    written = After(native, bytes.fromhex("f3 48 0f ae d0"), rax=0x1234_5678_9ABC)
    assert written.fs_base == 0x1234_5678_9ABC


@pytest.mark.parametrize(
    ("name", "offset", "vector"),
    [
        ("data", 0, NO_VECTOR),
        ("data", 2 * PAGE - 4, NO_VECTOR),
        ("data", 2 * PAGE - 3, GP),
        ("half", PAGE - 4, NO_VECTOR),
        ("half", PAGE, GP),
        ("expand_down", PAGE - 4, GP),
        ("expand_down", PAGE, NO_VECTOR),
        ("expand_down16", 0x10000, GP),
    ],
)
def test_segments_of_the_local_descriptor_table_have_base_limit_and_rights(
    native: Native, name: str, offset: int, vector: int
) -> None:
    after = After(native, bytes.fromhex("26 8b 18"), 32, rax=offset, es=ldt_selector(name))
    assert after.vector == vector
    if vector == NO_VECTOR:
        assert after.rbx == int.from_bytes(pristine()[offset : offset + 4], "little")


@pytest.mark.parametrize(("name", "vector"), [("code32", NO_VECTOR), ("execute_only", GP)])
def test_code_segments_may_be_read_only_where_they_say_so(native: Native, name: str, vector: int) -> None:
    after = After(native, bytes.fromhex("2e 8b 18"), 32, rax=AT - CODE, cs=ldt_selector(name))
    assert after.vector == vector
    if vector == NO_VECTOR:
        assert after.rbx == 0xCC188B2E


def test_16_bit_addressing_reaches_the_data_through_a_segment(native: Native) -> None:
    after = After(native, b"\x01\x07", 16, rbx=0xFFFF_0010, rax=0x1111, ds=ldt_selector("data"))
    assert after.vector == NO_VECTOR
    old = int.from_bytes(pristine()[16:18], "little")
    assert after.offset == 16
    assert after.changed == (old + 0x1111 & 0xFFFF).to_bytes(2, "little")


@pytest.mark.parametrize(("code", "bits"), [("0f05", 64), ("cd80", 64), ("cd80", 32)])
def test_system_calls_do_not_reach_the_kernel(native: Native, code: str, bits: int) -> None:
    assert After(native, bytes.fromhex(code), bits, rax=60).vector == SYSTEM_CALL


def test_floating_point_state_goes_in_and_comes_out(native: Native) -> None:
    cases = np.array([case(bytes.fromhex("dec1")), case(bytes.fromhex("0f58c1"))])
    cases["with_fxsave"] = 1
    image = np.zeros((2, FXSAVE_BYTES), np.uint8)
    image[:, :2] = 0x7F, 0x03
    image[:, 3] = 6 << 3
    image[:, 4] = 0b1100_0000
    image[:, 24:28] = np.frombuffer(struct.pack("<I", 0x1F80), np.uint8)
    for register, exponent in ((0, 0x3FFF), (1, 0x4000)):
        image[:, 32 + 16 * register : 42 + 16 * register] = np.frombuffer(
            struct.pack("<QH", 1 << 63, exponent), np.uint8
        )
        image[:, 160 + 16 * register : 176 + 16 * register] = np.frombuffer(
            np.array([1.5] * 4, "<f4").tobytes(), np.uint8
        )
    outcome = native.run(cases, image)
    assert list(outcome.states["vector"]) == [NO_VECTOR, NO_VECTOR]
    assert outcome.fxsave is not None
    three = struct.pack("<QH", 3 << 62, 0x4000)
    assert outcome.fxsave[0, 32:42].tobytes() == three
    assert outcome.fxsave[0, 3] >> 3 & 7 == 7
    assert outcome.fxsave[1, 160:176].tobytes() == np.array([3.0] * 4, "<f4").tobytes()


def test_results_keep_their_order_over_several_batches(native: Native) -> None:
    cases = np.array([case(b"\x48\xff\x00", rax=DATA + 8)] * (2 * BATCH + 10))
    numbers = np.arange(len(cases), dtype="<u8")
    cases["patches"][:, 0]["address"], cases["patches"][:, 0]["length"] = DATA + 8, 8
    cases["patches"][:, 0]["bytes"][:, :8] = numbers.view("u1").reshape(-1, 8)
    cases["gpr"][:, 3] = numbers
    outcome = native.run(cases)
    assert (outcome.states["gpr"][:, 3] == numbers).all()
    for index in (0, BATCH - 1, BATCH, 2 * BATCH + 9):
        offset, content = outcome.changed(index)
        assert offset == 8
        assert (index + 1).to_bytes(8, "little").startswith(content)


def test_a_hang_names_the_instruction_and_the_oracle_goes_on(native: Native) -> None:
    cases = np.array([case(b"\x90"), case(b"\xeb\xfe"), case(b"\x90")])
    with pytest.raises(NativeFailure, match="hung at case 1: eb fe"):
        native.run(cases)
    assert After(native, b"\x90").vector == NO_VECTOR


def test_a_death_names_the_instruction_and_the_oracle_goes_on(native: Native) -> None:
    unloadable = np.array([case(b"\x90"), case(b"\x0f\x0b", es=0xFFF3)])
    with pytest.raises(NativeFailure, match="died at case 1: 0f 0b"):
        native.run(unloadable)
    assert After(native, b"\x90").vector == NO_VECTOR
