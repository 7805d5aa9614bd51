"""Code runs on this host's processor itself, in a process of its own. No time is asserted: only what code computed, and
what becomes of code that misbehaves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from hvmx.cost import native
from hvmx.cost.native import CODE_ADDRESS, DATA_ADDRESS, NativeError, call, measure

RET = b"\xc3"


@pytest.fixture(autouse=True)
def _host_that_can_and_no_child_left_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if native.host_problem():
        pytest.skip(str(native.host_problem()))
    started, start = [], native.native_child.start

    def noted(*arguments: Any) -> int:
        started.append(start(*arguments))
        return started[-1]

    monkeypatch.setattr(native.native_child, "start", noted)
    yield
    for child in started:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_64_bit_code_is_called_where_it_says_with_the_address_of_its_data() -> None:
    lea = bytes.fromhex("488d05f9ffffff")  # lea rax, [rip - 7]: where it is itself
    assert set(call(lea + RET, repetitions=3)) == {CODE_ADDRESS}
    load = bytes.fromhex("4889f8 480307")  # mov rax, rdi; add rax, [rdi]
    assert call(load + RET, data=b"\5", data_bytes=8, repetitions=3) == (DATA_ADDRESS + 5,) * 3


def test_32_bit_code_runs_in_32_bit_mode_with_its_argument_on_the_stack() -> None:
    code = bytes.fromhex("b8ffffffff 40 03442404")  # mov eax, -1; inc eax (a REX prefix in 64 bits); add eax, [esp + 4]
    assert call(code + RET, width=32, repetitions=3) == (DATA_ADDRESS,) * 3


def test_a_repetition_finds_what_the_one_before_it_left() -> None:
    count = bytes.fromhex("48ff07 488b07")  # inc qword [rdi]; mov rax, [rdi]
    assert call(count + RET, data_bytes=8, repetitions=20) == tuple(range(1, 21))


def test_code_may_change_every_register_but_the_stack_pointer() -> None:
    clear = bytes.fromhex("31c0 31db 31c9 31d2 31f6 31ff 31ed 4531c0 4531c9 4531d2 4531db 4531e4 4531ed 4531f6 4531ff fd")
    assert call(clear + RET, repetitions=3) == (0, 0, 0)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (bytes.fromhex("0f0b"), "crashed by SIGILL in repetition 1 of 5"),
        (bytes.fromhex("488b042500000000"), "crashed by SIGSEGV"),
        (bytes.fromhex("c60500000000c3"), "crashed by SIGSEGV"),  # it writes to itself
        (bytes.fromhex("b83c000000 31ff 0f05"), "left by itself in repetition 1 of 5"),  # exit(0)
        (bytes.fromhex("ebfe"), "still running after 0.2 s"),
    ],
)
def test_code_that_crashes_hangs_or_leaves_is_an_error_and_no_more(code: bytes, why: str) -> None:
    with pytest.raises(NativeError, match=why):
        measure(code, repetitions=5, timeout=0.2 if "0.2 s" in why else 20)
    assert len(call(RET, repetitions=5)) == 5


def test_what_cannot_be_placed_is_refused_before_anything_runs() -> None:
    for options in ({"width": 16}, {"repetitions": 0}, {"data": b"12", "data_bytes": 1}, {"data_bytes": 1 << 40}):
        with pytest.raises(ValueError, match="code|memory"):
            measure(RET, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="code of 0 bytes"):
        measure(b"")


def test_a_disturbed_sample_is_set_aside_and_too_many_are_an_error() -> None:
    taken = native.np.zeros(20, native._SAMPLE)
    taken["before"], taken["after"], taken["ticks"] = 1000, 1000, 500
    taken["after"][:5], taken["ticks"][:5] = 1100, 9999  # a chain was interrupted
    taken["before"][5:10] = taken["after"][5:10] = 1400  # both were held up
    assert set(native._in_chains(taken, 1000)) == {0.5}
    taken["after"] = 1500
    with pytest.raises(native.HostTooNoisy, match="0 of 20 runs were undisturbed"):
        native._in_chains(taken, 1000)


def test_on_another_host_it_says_what_it_would_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native.native_child, "CAN_RUN", 0)
    with pytest.raises(NativeError, match="x86-64 Linux, and this is"):
        measure(RET)
