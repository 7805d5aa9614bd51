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
from pv import kernel

import hvmx
from hvmx import guests
from hvmx.core.exit_info import Exit
from hvmx.core.vcpu import Vcpu
from hvmx.hvm.console import KeySource
from hvmx.machine import Stop, StopKind
from hvmx.pv.xen import Call

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
            signal.setitimer(
                signal.ITIMER_REAL, self._rng.choice((2e-5, 1e-4, 5e-4, 2e-3)) * (0.1 + self._rng.random())
            )

    def _alarm(self, number: int, frame: Any) -> None:
        self._next()
        caller = frame
        while caller is not None and caller.f_code is not run_on.__code__:
            if (
                caller is not frame
                and caller.f_code is Alarms._alarm.__code__
                or frame.f_code is Alarms._alarm.__code__
            ):
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
            signal.signal(signal.SIGALRM, signal.SIG_IGN)  # the handler would set the timer again
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


# Starts a timer whose interrupts stay masked; then sends bytes, and with every 16th it accesses a device's memory twice
# and a port once.
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
        machine.cpu.translate_after = 0  # where a run is left says how often blocks are entered
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


@pytest.mark.parametrize("way", ["run", "step"])
def test_why_a_run_ended_is_not_lost_where_a_signal_comes_just_after_it(way: str) -> None:
    machine = hvmx.Machine("1M", debug_exit=0xF4)
    machine.load(bytes.fromhex("b007 e6f4 f4"), load_address=0x1000, bits=32)  # mov al, 7; out 0xf4, al; hlt
    raised = 0

    def trace(frame: Any, event: str, argument: object) -> Any:
        """Raise where Python would call a signal's handler: after the call by which the machine runs."""
        nonlocal raised
        if frame.f_code is getattr(hvmx.Machine, way).__code__:
            frame.f_trace_opcodes = True
            if event == "opcode" and machine.cpu.rip == 0x1004 and not machine._busy.locked() and ended and not raised:
                raised += 1
                raise Alarm
        elif frame.f_code is hvmx.Machine._result.__code__ and machine.cpu.rip == 0x1004:
            ended.append(True)
        return trace

    ended: list[bool] = []
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        stop = run_on(getattr(machine, way))
    finally:
        sys.settrace(before)
    assert raised == 1
    assert (stop.kind, stop.value) == (StopKind.DEBUG_EXIT, 7)


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


@pytest.mark.parametrize("seed", [None, 4])
def test_so_it_is_of_a_paravirtual_guest_with_a_console(seed: int | None) -> None:
    def guest() -> tuple[hvmx.Machine, list[bytes]]:
        text: list[bytes] = []

        def console(data: bytes) -> None:
            text.append(b"<")
            time.sleep(1e-4)
            text.append(bytes(data))

        machine = hvmx.Machine("64M", serial=console)
        machine.load(guests.image("pv64"), pv=True, append="workloads=console,timer-tick,port-in")
        machine.cpu.translate_after = 0
        return machine, text

    def figures(machine: hvmx.Machine, text: list[bytes]) -> dict[str, Any]:
        return {"text": text, "state": machine.state_hash(), **without_host_time(machine.statistics())}

    (undisturbed, plain_text), (machine, text), alarms = guest(), guest(), Alarms(seed)
    assert undisturbed.run().kind is StopKind.POWEROFF
    with alarms.on():
        stop = run_on(lambda: machine.run(cycles=50_000))
    assert stop.kind is StopKind.POWEROFF and alarms.raised > 3
    assert_same(figures(undisturbed, plain_text), figures(machine, text))


def test_a_handler_that_runs_another_machine_is_not_broken_off() -> None:
    def guest(count: int) -> tuple[hvmx.Machine, list[int]]:
        outer, inner, done = hvmx.Machine("1M"), hvmx.Machine("1M"), list[int]()
        inner.load(bytes.fromhex("40 e401 ebfb"), load_address=0x1000, bits=32)  # again: inc eax; in al, 1
        outer.load(
            b"\xb9" + count.to_bytes(4, "little") + bytes.fromhex("e680 49 75fb f4"),
            load_address=0x1000,
            bits=32,
        )

        def run_inner(cpu: Vcpu, exit: Exit) -> None:
            done.append(0)
            assert inner.run(cycles=200_000).kind is StopKind.CYCLES
            done.append(inner.cycles)

        outer.exits.on_ports(0x80, 1, run_inner)
        return outer, done

    (undisturbed, plain_done), (outer, done), alarms = guest(400), guest(400), Alarms(5)
    undisturbed.run()
    with alarms.on():
        stop = run_on(outer.run)
    assert stop.kind is StopKind.HALTED and alarms.raised > 5
    assert done == plain_done
    assert outer.cycles == undisturbed.cycles


def test_a_run_in_another_thread_goes_on_while_the_main_thread_takes_signals() -> None:
    undisturbed, guest, alarms = Guest(3_000), Guest(3_000), Alarms(6)
    undisturbed.machine.run()
    stops: list[Stop] = []
    thread = threading.Thread(target=lambda: stops.append(guest.machine.run()))

    def wait() -> Stop:
        while not stops:
            time.sleep(1e-3)
        return stops[0]

    with alarms.on():
        thread.start()
        run_on(wait)
    assert alarms.raised > 5
    assert_same(undisturbed.figures(), guest.figures())


def test_a_guest_that_waits_for_keys_loses_none() -> None:
    read_end, write_end = os.pipe()
    sent: list[bytes] = []
    # The serial port's interrupt wakes it: enable it, unmask IRQ 4, then HLT and echo each byte; "." ends it.
    source = """
    mov esp, 0x9000
    mov al, 0x11; out 0x20, al; mov al, 0x20; out 0x21, al; mov al, 4; out 0x21, al; mov al, 1; out 0x21, al
    mov al, 0xef; out 0x21, al
    mov edx, 0x3f9; mov al, 1; out dx, al; mov edx, 0x3fc; mov al, 8; out dx, al
    1: sti; hlt; jmp 1b
    .balign 64
    mov edx, 0x3fd; in al, dx; test al, 1; jz 2f
    mov edx, 0x3f8; in al, dx; out dx, al
    cmp al, '.'; jne 2f; mov al, 7; out 0xf4, al
    2: mov al, 0x20; out 0x20, al; iretd
    """
    code = assemble(32, [source.replace(";", "\n")])[0]
    with KeySource(read_end) as keys:
        machine = hvmx.Machine("1M", serial=sent.append, keys=keys, debug_exit=0xF4)
        machine.load(code, load_address=0x1000, bits=32)
        handler = 0x1000 + len(code.split(bytes.fromhex("ba fd030000"))[0])
        gate = (handler & 0xFFFF) | machine.cpu.segment("cs")[0] << 16 | 0x8E00 << 32 | (handler >> 16) << 48
        machine.cpu.write(0x4000, bytes(8 * 0x24) + gate.to_bytes(8, "little"))
        machine.cpu.idtr = (0x4000, 0x7FF)
        text = b"".join(b"%d," % n for n in range(60)) + b"."
        alarms = Alarms()

        def type_it() -> None:
            for at in range(0, len(text), 7):
                time.sleep(2e-3)
                os.write(write_end, text[at : at + 7])

        typist = threading.Thread(target=type_it)
        with alarms.on():
            typist.start()
            stop = run_on(lambda: machine.run(timeout=20))
            run_on(lambda: (typist.join(), Stop(StopKind.HALTED))[1])
    os.close(read_end)
    os.close(write_end)
    assert stop.kind is StopKind.DEBUG_EXIT, stop
    assert b"".join(sent) == text and alarms.raised > 5


@pytest.fixture
def interrupting() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, as it does by default."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def looping(answer: Callable[[Vcpu, Exit], None], code: str = "e680 e680 e680 40 ebf7") -> hvmx.Machine:
    """A machine that writes to port 0x80 for ever, which is answered so."""
    machine = hvmx.Machine("1M", debug_exit=0xF4)
    machine.load(bytes.fromhex(code), load_address=0x1000, bits=32)
    machine.exits.on_ports(0x80, 1, answer)
    return machine


def test_a_stop_and_an_interrupt_at_once_are_both_had_the_stop_once(interrupting: None) -> None:
    done = []

    def answer(cpu: Vcpu, exit: Exit) -> None:
        done.append(cpu.rip)
        machine.stop()
        signal.raise_signal(signal.SIGINT)
        done.append(cpu.rip)

    machine = looping(answer)
    for turn in range(1, 4):
        with pytest.raises(KeyboardInterrupt):
            machine.run()
        assert len(done) == 2 * turn, "the handler ran to its end, and once"
        assert machine.run().kind is StopKind.REQUESTED
        assert len(done) == 2 * turn, "the stop was of the run before"


def test_the_end_that_a_guest_asked_for_is_returned_by_the_next_run(interrupting: None) -> None:
    def answer(cpu: Vcpu, exit: Exit) -> None:
        signal.raise_signal(signal.SIGINT)

    machine = looping(answer, "b009 e6f4 ebfc")
    before = machine.cpu.handler(hvmx.ExitReason.IO_INSTRUCTION)
    assert before is not None

    def exit_and_signal(cpu: Vcpu, exit: Exit) -> None:
        before(cpu, exit)
        signal.raise_signal(signal.SIGINT)

    machine.cpu.set_handler(hvmx.ExitReason.IO_INSTRUCTION, exit_and_signal)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            machine.run()
        stop = machine.run(cycles=0)
        assert (stop.kind, stop.value) == (StopKind.DEBUG_EXIT, 9)
    assert machine.run(cycles=0).kind is StopKind.CYCLES


def test_a_shutdown_is_returned_by_the_run_after_an_interrupt(interrupting: None) -> None:
    machine = looping(lambda cpu, exit: signal.raise_signal(signal.SIGINT), "0f0b")  # ud2, and no IDT
    before = machine.cpu.handler(hvmx.ExitReason.TRIPLE_FAULT)
    assert before is not None

    def shut_down(cpu: Vcpu, exit: Exit) -> None:
        before(cpu, exit)
        signal.raise_signal(signal.SIGINT)

    machine.cpu.set_handler(hvmx.ExitReason.TRIPLE_FAULT, shut_down)
    machine.cpu.idtr = (0, 0)
    with pytest.raises(KeyboardInterrupt):
        machine.run()
    assert machine.run().kind is StopKind.TRIPLE_FAULT


HANGING = """
import os, signal, sys, threading, time
import hvmx
machine = hvmx.Machine("1M")
machine.load(bytes.fromhex("e680f4"), load_address=0x1000, bits=32)
def hang(cpu, exit):
    def press():
        for after in (0.1, 0.1, 0.6):
            time.sleep(after)
            times.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=press, daemon=True).start()
    while True:
        time.sleep(0.01)
times = []
machine.exits.on_ports(0x80, 1, hang)
try:
    machine.run()
except KeyboardInterrupt:
    print(len(times), time.monotonic() - times[-1] < 0.3)
"""


def run_python(source: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_handler_that_hangs_is_interrupted_when_asked_again_after_half_a_second() -> None:
    assert run_python(HANGING) == "3 True\n"


def test_while_no_guest_runs_signals_are_handled_as_ever(interrupting: None) -> None:
    machine = looping(lambda cpu, exit: None)
    machine.run(cycles=100_000)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    machine.run(cycles=100_000)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_handler_set_after_the_first_run_is_held_back_too() -> None:
    seen: list[str] = []

    def answer(cpu: Vcpu, exit: Exit) -> None:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR2)
        seen.append("answered")

    machine = looping(answer)
    assert machine.run(cycles=0).kind is StopKind.CYCLES

    def raising(number: int, frame: Any) -> None:
        seen.append("raised")
        raise Alarm

    before = [signal.signal(signal.SIGUSR1, raising), signal.signal(signal.SIGUSR2, signal.SIG_IGN)]
    try:
        for turn in range(1, 4):
            with pytest.raises(Alarm):
                machine.run()
            assert seen == ["answered", "raised"] * turn
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            signal.signal(signal.SIGUSR1, raising)
    finally:
        signal.signal(signal.SIGUSR1, before[0])
        signal.signal(signal.SIGUSR2, before[1])


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    machine = looping(lambda cpu, exit: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert machine.run(cycles=200_000).kind is StopKind.CYCLES
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signals_handler_may_run_a_machine() -> None:
    plain = Guest(1_000)
    plain.machine.run()
    ends: list[dict[str, Any]] = []

    def run_one(number: int, frame: Any) -> None:
        guest = Guest(1_000)
        assert guest.machine.run().kind is StopKind.DEBUG_EXIT
        ends.append(guest.figures())

    machine = looping(lambda cpu, exit: signal.raise_signal(signal.SIGUSR1) if len(ends) < 3 else cpu.stop())
    before = signal.signal(signal.SIGUSR1, run_one)
    try:
        assert machine.run().kind is StopKind.REQUESTED
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(ends) == 3
    for end in ends:
        assert_same(plain.figures(), end)


def test_hypercalls_in_python_are_made_once_whatever_signals_raise() -> None:
    code = "mov $3000, %ebx\n1: hypercall 70\n dec %ebx\n jnz 1b\n mov $2, %edi\n push $0\n mov %rsp, %rsi\n hypercall 29\n"

    def guest() -> tuple[hvmx.Machine, list[int]]:
        machine, calls = hvmx.Machine("16M"), list[int]()
        machine.load(kernel.assemble(code), pv=True)
        machine.cpu.translate_after = 0

        def answer(call: Call) -> int:
            calls.append(call.number)
            time.sleep(0)
            calls.append(-call.number)
            return 1

        machine.hypercalls.register(70, answer)
        return machine, calls

    (undisturbed, plain_calls), (machine, calls), alarms = guest(), guest(), Alarms(7)
    assert undisturbed.run().kind is StopKind.POWEROFF
    with alarms.on():
        stop = run_on(machine.run)
    assert stop.kind is StopKind.POWEROFF and alarms.raised > 5
    assert calls == plain_calls
    assert_same(without_host_time(undisturbed.statistics()), without_host_time(machine.statistics()))
    assert machine.state_hash() == undisturbed.state_hash()
