"""Calls everything that an embedder sees with anything, runs the guest between, and races it with another thread."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np

from hvmx import ExitReason, Machine, guests
from hvmx.core.exit_info import Exit
from hvmx.core.vcpu import Vcpu
from hvmx.pv.xen import Call

WRITERS = ["__setitem__", "__iadd__", "fill", "put", "sort", "byteswap", "copy"]
"""What is hvmx's own of an array: numpy's other methods end the process by themselves on some of the values below."""

SKIPPED = {"translate_after"}  # 0 makes every block host code: tried by the translator's own tests


class Liar(bytearray):
    def __len__(self) -> int:
        return 1 << 20


class Odd:
    """Whatever is asked of it is answered by something else."""

    def __index__(self) -> Any:
        return -1

    def __len__(self) -> int:
        return 1 << 30

    def __iter__(self) -> NoReturn:
        raise LookupError

    def __call__(self, *_: Any) -> Any:
        return self


VALUES: list[Any] = [
    *(0, 1, -1, 5, 13, 0x60, 0x1000, 0xFFF, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 57, 1 << 60, 1 << 63),
    *((1 << 64) - 1, 1 << 64, 1 << 80, 1.5, float("nan"), None, True, "x", "rax", "cs", "alu", b"", b"abc", bytes(4096)),
    *(Liar(b"abc"), Odd(), [], (), (0, 0), {}, {1: 1}, {"alu": 5}, object(), str, len, Odd, np.uint8(3)),
    *(np.arange(4), np.arange(4, dtype=np.uint8)[::2], ExitReason.CPUID, slice(None), Ellipsis, memoryview(b"abcd")),
]


def guest() -> Machine:
    machine = Machine("2M", board=False)
    # again: in al, 0x60; cpuid; mov eax, [0xfed40000]; mov [0x5000], eax; vmcall; inc ecx; jmp again
    code = "e460 0fa2 a10000d4fe a300500000 0f01c1 41 ebeb"
    machine.load(bytes.fromhex(code), load_address=0x1000, bits=32)
    return machine


def domain() -> Machine:
    machine = Machine("32M")
    machine.load(guests.image("pv64"), pv=True, append="checks=no workloads=port-in")
    return machine


def parts(machine: Machine) -> list[Any]:
    call = Call()
    found: list[Any] = [machine, machine.cpu, machine.cpu, machine.cpu.exit, machine.exits, machine.hypercalls, call]
    found += [machine.memory[0x1000:0x1100], machine.cpu.io_bitmap, machine.clock]  # of all of memory numpy makes much work
    if machine.domain is not None:
        found += [machine.domain, machine.domain.xen]
    return found


def one_call(rng: random.Random, thing: Any) -> None:
    names = dir(thing) if not isinstance(thing, np.ndarray) else WRITERS
    name = rng.choice([name for name in names if name not in SKIPPED])
    if name in WRITERS:
        pass
    elif name.startswith("__") and name not in ("__init__", "__reduce__", "__repr__", "__new__"):
        return
    arguments = [rng.choice(VALUES) for _ in range(rng.randrange(4))]
    if name == "step" and isinstance(thing, Vcpu):
        return  # of a guest that waits with its interrupts masked it takes for ever; the machine's has a limit
    if name in ("run", "step"):
        arguments = [rng.choice([1, 50, 1000, 50_000])] if name == "run" else [0.05]
    if rng.random() < 0.4:
        setattr(thing, name, rng.choice(VALUES))
        return
    member = getattr(thing, name)
    if callable(member):
        member(*arguments)


def quietly(function: Callable[..., object], *arguments: Any) -> None:
    with suppress(Exception):  # one is what is promised; the alarm is one, too
        function(*arguments)


def late(*_: object) -> NoReturn:
    raise TimeoutError


def fuzz(seed: int, seconds: float) -> None:
    """Calls for so many seconds: half of them alone, half of them beside a thread that runs the guest."""
    rng = random.Random(seed)
    signal.signal(signal.SIGALRM, late)
    for alone in (True, False):
        end = time.monotonic() + seconds / 2
        while time.monotonic() < end:
            machine = domain() if rng.random() < 0.2 else guest()
            cpu = machine.cpu
            pieces = parts(machine)
            if alone:
                handler_calls(rng, machine, pieces)
            for _ in range(60):
                if alone:
                    quietly(alarmed, one_call, rng, rng.choice(pieces))
                    quietly(alarmed, cpu.run, 20_000)
                else:
                    beside(rng, cpu, pieces)


def alarmed(function: Callable[..., object], *arguments: Any) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        function(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def handler_calls(rng: random.Random, machine: Machine, pieces: list[Any]) -> None:
    """Let handlers do what they like, now and then."""

    def handler(vcpu: Vcpu, exit: Exit) -> None:
        if rng.random() < 0.3:
            one_call(rng, rng.choice(pieces))

    for reason in (ExitReason.CPUID, ExitReason.IO_INSTRUCTION, ExitReason.EPT_MISCONFIG, ExitReason.EPT_VIOLATION):
        if machine.domain is None or reason is not ExitReason.EPT_MISCONFIG:  # which no PV guest has
            machine.exits.on(reason, handler)
    machine.hypercalls.register(200, lambda call: one_call(rng, rng.choice([call, *pieces])) or 0)
    if machine.domain is None:
        machine.cpu.rax = 200


def beside(rng: random.Random, cpu: Vcpu, pieces: list[Any]) -> None:
    done = threading.Event()

    def stopper() -> None:
        while not done.is_set():
            for _ in range(20):
                quietly(one_call, rng, rng.choice(pieces))
            cpu.stop()

    thread = threading.Thread(target=stopper)
    thread.start()
    try:
        for _ in range(3):
            quietly(cpu.run, 1_000_000)
    finally:
        done.set()
        thread.join()
