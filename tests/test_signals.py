"""Signals while a guest runs: what their handlers raise comes out between two instructions, and nothing is done twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
from core.machine import assemble
from figures import without_host_time

import hvmx
from hvmx import guests
from hvmx.core.exit import Exit
from hvmx.core.vcpu import Vcpu
from hvmx.hvm.console import KeySource
from hvmx.machine import Stop, StopKind

NIGHTLY = os.environ.get("HVMX_NIGHTLY") == "1"
BYTES = 300_000 if NIGHTLY else 20_000
MMIO, PORT, STOP_PORT = 0xFED40000, 0x5000, 0x5001
IN_THE_MIDST = (StopKind.CYCLES, StopKind.STEP)

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")


class Alarm(Exception):
    """What a signal's handler raises."""


class Alarms:
    """SIGALRM every millisecond, or after random times; its handler raises in all that `run_on` calls."""

    def __init__(self, seed: int | None = None) -> None:
        self.raised = 0
        self._rng = None if seed is None else random.Random(seed)

    def _next(self) -> None:
        if self._rng is not None:
            signal.setitimer(signal.ITIMER_REAL, self._rng.choice((2e-5, 1e-4, 5e-4, 2e-3)) * (0.1 + self._rng.random()))

    def _alarm(self, number: int, frame: Any) -> None:
        self._next()
        caller = frame
        while caller is not None and caller.f_code is not run_on.__code__:
            if caller is not frame and caller.f_code is Alarms._alarm.__code__ or frame.f_code is Alarms._alarm.__code__:
                return
            caller = caller.f_back
        if caller is not None and caller is not frame:
            self.raised += 1
            raise Alarm

    @contextmanager
    def on(self) -> Iterator[None]:
        before = signal.signal(signal.SIGALRM, self._alarm)
        try:
            if self._rng is None:
                signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)
            else:
                self._next()
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def run_on(once: Callable[[], Stop]) -> Stop:
    """Run to the end, in as many runs as it takes; here alone a signal's handler raises nothing."""
    while True:
        try:
            stop = once()
        except Alarm:
            continue
        if stop.kind not in IN_THE_MIDST:
            return stop


# A timer whose interrupts stay masked; then bytes, and with every 16th two accesses of device memory and one of a port.
SENDER = f"""
mov al, 0x34; out 0x43, al; mov al, 0x10; out 0x40, al; mov al, 0; out 0x40, al
1: mov edx, 0x3f8; mov eax, ecx; out dx, al
test cl, 15; jnz 2f
mov [{MMIO}], eax; mov ebx, [{MMIO}]; mov edx, {PORT}; mov eax, ecx; out dx, eax
2: dec ecx; jnz 1b
mov al, 7; out 0xf4, al; hlt
"""


@cache
def sender() -> bytes:
    return assemble(32, [SENDER.replace(";", "\n")])[0]


class Guest:
    """A machine whose guest sends bytes through the serial port, to device memory and to a port, with a timer."""

    def __init__(self, count: int = BYTES) -> None:
        self.sent: list[bytes] = []
        self.seen: list[int] = []
        self.machine = machine = hvmx.Machine("1M", serial=self._send, debug_exit=0xF4)
        code = b"\xb9" + count.to_bytes(4, "little") + sender()  # mov ecx, count
        machine.load(code, load_address=0x1000, bits=32)
        machine.exits.on_mmio(MMIO, 0x1000, self._device)
        machine.exits.on_ports(PORT, 1, self._device)

    def _send(self, data: bytes) -> None:
        self.sent.append(bytes(data))

    def _device(self, cpu: Vcpu, exit: Exit) -> None:
        self.seen.append(exit.reason)
        exit.value = len(self.seen)
        time.sleep(0)
        self.seen.append(-exit.reason)

    def figures(self) -> dict[str, Any]:
        return {
            "sent": b"".join(self.sent),
            "seen": self.seen,
            "state": self.machine.state_hash(),
            "last exits": self.machine.cpu.last_exits(),
            **without_host_time(self.machine.statistics()),
        }


def assert_same(plain: dict[str, Any], disturbed: dict[str, Any]) -> None:
    different = {name: (plain[name], disturbed[name]) for name in plain if plain[name] != disturbed[name]}
    assert not different, f"undisturbed, and with signals: {str(different)[:2000]}"


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    guest = Guest()
    stop = guest.machine.run()
    assert stop.kind is StopKind.DEBUG_EXIT and stop.value == 7
    assert len(guest.figures()["sent"]) == BYTES
    return guest.figures()


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_every_byte_comes_out_once_whatever_signals_raise(plain: dict[str, Any], seed: int | None) -> None:
    guest, alarms = Guest(), Alarms(seed)
    with alarms.on():
        stop = run_on(guest.machine.run)
    assert (stop.kind, stop.value) == (StopKind.DEBUG_EXIT, 7)
    assert alarms.raised > 20
    assert_same(plain, guest.figures())


@pytest.mark.parametrize("cycles", [1, 20_000])
def test_so_it_is_in_slices(cycles: int) -> None:
    undisturbed, guest, alarms = Guest(2_000), Guest(2_000), Alarms(cycles)
    undisturbed.machine.run()
    with alarms.on():
        stop = run_on(lambda: guest.machine.run(cycles=cycles))
    assert stop.kind is StopKind.DEBUG_EXIT and alarms.raised > 5
    assert_same(undisturbed.figures(), guest.figures())


def test_so_it_is_in_steps() -> None:
    undisturbed, guest, alarms = Guest(2_000), Guest(2_000), Alarms(3)
    undisturbed.machine.run()
    with alarms.on():
        stop = run_on(guest.machine.step)
    assert stop.kind is StopKind.DEBUG_EXIT and alarms.raised > 5
    assert_same(undisturbed.figures(), guest.figures())
