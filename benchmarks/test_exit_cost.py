"""Host time of the ways out of the guest: an exit to Python, and a hypercall that stays in C."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import images
import pytest
from expected import assert_expected, counts
from images import Kernel
from peers import Unicorn, unicorn_machine
from pytest_benchmark.fixture import BenchmarkFixture

pytest.importorskip("hvmx.machine", exc_type=ImportError)

import hvmx

EXIT_LIMIT_SECONDS: Final = 150e-9
HYPERCALL_LIMIT_SECONDS: Final = 15e-9
DEVICE_LIMIT_SECONDS: Final = 400e-9
UNICORN_HOOK_SECONDS: Final = 370e-9
"""Unicorn's hook where the limits were set: on a machine on which it takes longer, so may hvmx in proportion."""
EXITS: Final = 300_000
HYPERCALLS: Final = 5_000_000
LAPS: Final = 5
EMPTY_TRANSMITTER: Final = 0x60
"""THRE and TEMT of the line status."""
OLDEST_XEN: Final = 4
"""Major version, in the upper half of what hypercall xen_version answers."""


def ignore(vcpu: Any, exit: Any) -> None:
    """A handler that does nothing."""


def start(image: Path, pv: bool = False) -> hvmx.Machine:
    machine = hvmx.Machine(memory="64M", profile="skylake")
    machine.load(str(image), pv=pv)
    return machine


def run_to_halt(machine: hvmx.Machine, kernel: Kernel) -> float:
    """Host seconds of a run up to the HLT that ends every kernel image."""
    begin = time.perf_counter()
    machine.run()
    elapsed = time.perf_counter() - begin
    halt = images.flat(kernel).halt
    assert machine.cpu.rip in (halt, halt + 1), f"stopped at {machine.cpu.rip:#x}, not at the HLT {halt:#x}"
    return elapsed


def test_every_cpuid_exit_reaches_its_handler_once() -> None:
    kernel, calls = Kernel("cpuid", 1000), 0

    def count(vcpu: Any, exit: Any) -> None:
        nonlocal calls
        calls += 1

    machine = start(images.multiboot(kernel))
    machine.exits.on(hvmx.ExitReason.CPUID, count)
    run_to_halt(machine, kernel)
    assert calls == kernel.rounds


class Hooks:
    """Unicorn's hook on the same machine, timed in turn with what is held against it."""

    def __init__(self) -> None:
        self.missing = Unicorn().missing()
        self._kernel = Kernel("cpuid", EXITS)
        self._laps: list[float] = []

    def lap(self) -> None:
        if self.missing is None:
            self._laps.append(seconds_of_unicorn_hooks(self._kernel) / EXITS)

    def limit(self, seconds: float) -> float:
        """What `seconds` come to on this machine; never less."""
        return seconds * max(1.0, min(self._laps, default=0.0) / UNICORN_HOOK_SECONDS)

    def __str__(self) -> str:
        return f"Unicorn's hook {min(self._laps) * 1e9:.0f} ns" if self._laps else f"Unicorn: {self.missing}"


def test_an_exit_to_a_handler_that_does_nothing(benchmark: BenchmarkFixture, report: list[str]) -> None:
    """Three more instructions a loop are in the time."""
    kernel, hooks = Kernel("cpuid", EXITS), Hooks()
    laps: list[float] = []
    counted: list[dict[str, Any]] = []

    def lap() -> None:
        machine = start(images.multiboot(kernel))
        machine.exits.on(hvmx.ExitReason.CPUID, ignore)
        laps.append(run_to_halt(machine, kernel))
        counted.append(counts(machine.statistics()))

    benchmark.pedantic(lap, setup=hooks.lap, rounds=LAPS)
    assert_expected(benchmark, f"a handler that does nothing, {kernel}", counted, images.multiboot(kernel))
    assert_cost("exit to a Python handler", min(laps) / EXITS, EXIT_LIMIT_SECONDS, hooks, benchmark, report)


def test_a_read_of_the_uarts_line_status(benchmark: BenchmarkFixture, report: list[str]) -> None:
    """Two more instructions a loop are in the time."""
    kernel, hooks = Kernel("uart", EXITS), Hooks()
    laps: list[float] = []
    counted: list[dict[str, Any]] = []

    def lap() -> None:
        machine = start(images.multiboot(kernel))
        laps.append(run_to_halt(machine, kernel))
        counted.append(counts(machine.statistics()))
        assert machine.cpu.ebx == EMPTY_TRANSMITTER, f"the line status is {machine.cpu.ebx:#x}"

    benchmark.pedantic(lap, setup=hooks.lap, rounds=LAPS)
    name = "exit to a device, the UART's line status"
    assert_expected(benchmark, f"{name}, {kernel}", counted, images.multiboot(kernel))
    assert_cost(name, min(laps) / EXITS, DEVICE_LIMIT_SECONDS, hooks, benchmark, report)


def seconds_of_unicorn_hooks(kernel: Kernel) -> float:
    """The same kernel under Unicorn, with a hook on CPUID that does nothing."""
    from unicorn import UC_HOOK_INSN
    from unicorn.x86_const import UC_X86_INS_CPUID

    image = images.flat(kernel)
    machine = unicorn_machine(kernel)
    everywhere = (1, 0)
    machine.hook_add(UC_HOOK_INSN, lambda emulator, data: 0, None, *everywhere, UC_X86_INS_CPUID)
    begin = time.perf_counter()
    machine.emu_start(image.entry, image.report)
    return time.perf_counter() - begin


def test_a_vmcall_through_the_table(benchmark: BenchmarkFixture, report: list[str]) -> None:
    kernel, hooks = Kernel("vmcall", HYPERCALLS), Hooks()
    laps: list[float] = []
    counted: list[dict[str, Any]] = []

    def lap() -> None:
        machine = start(images.multiboot(kernel))
        laps.append(run_to_halt(machine, kernel))
        counted.append(counts(machine.statistics()))
        assert machine.cpu.rbx == 0, f"the hypercall answered {machine.cpu.rbx:#x}"

    benchmark.pedantic(lap, setup=hooks.lap, rounds=LAPS)
    name = "hypercall, VMCALL from HVM"
    assert_expected(benchmark, f"{name}, {kernel}", counted, images.multiboot(kernel))
    assert_cost(name, min(laps) / HYPERCALLS, HYPERCALL_LIMIT_SECONDS, hooks, benchmark, report)


def test_a_syscall_hypercall_through_the_table(benchmark: BenchmarkFixture, report: list[str]) -> None:
    kernel, hooks = Kernel("hypercall", HYPERCALLS), Hooks()
    laps: list[float] = []
    counted: list[dict[str, Any]] = []

    def lap() -> None:
        machine = start(images.xen_pv(kernel), pv=True)
        begin = time.perf_counter()
        machine.run()
        laps.append(time.perf_counter() - begin)
        counted.append(counts(machine.statistics()))
        assert machine.cpu.rbx == 0, f"{machine.cpu.rbx} hypercalls were left when the guest stopped"
        assert machine.cpu.rbp >> 16 >= OLDEST_XEN, f"version {machine.cpu.rbp:#x} is no Xen"

    benchmark.pedantic(lap, setup=hooks.lap, rounds=LAPS)
    name = "hypercall, SYSCALL from PV"
    assert_expected(benchmark, f"{name}, {kernel}", counted, images.xen_pv(kernel))
    assert_cost(name, min(laps) / HYPERCALLS, HYPERCALL_LIMIT_SECONDS, hooks, benchmark, report)


def assert_cost(
    name: str, seconds: float, limit: float, hooks: Hooks, benchmark: BenchmarkFixture, report: list[str]
) -> None:
    """The loop around the exit or hypercall is in the time."""
    here = hooks.limit(limit)
    report.append(f"{name}: {seconds * 1e9:.1f} ns (at most {here * 1e9:.1f}; {hooks})")
    benchmark.extra_info["host ns"] = seconds * 1e9
    assert seconds <= here
