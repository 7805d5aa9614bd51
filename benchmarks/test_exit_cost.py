"""Host time of the ways out of the guest: an exit to Python, and a hypercall that stays in C."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import images
import pytest
from images import Kernel
from peers import Unicorn, unicorn_machine
from pytest_benchmark.fixture import BenchmarkFixture

pytest.importorskip("hvmx.machine", exc_type=ImportError)

import hvmx

EXIT_LIMIT_SECONDS: Final = 150e-9
HYPERCALL_LIMIT_SECONDS: Final = 15e-9
EXITS: Final = 300_000
HYPERCALLS: Final = 5_000_000
LAPS: Final = 5
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


def test_an_exit_to_a_handler_that_does_nothing(benchmark: BenchmarkFixture, report: list[str]) -> None:
    """Three more instructions a loop are in the time. Unicorn's hook is timed in turn with it."""
    kernel = Kernel("cpuid", EXITS)
    hooks: list[float] = []
    laps: list[float] = []
    unicorn_missing = Unicorn().missing()

    def lap_of_hooks() -> None:
        if unicorn_missing is None:
            hooks.append(seconds_of_unicorn_hooks(kernel))

    def lap() -> None:
        machine = start(images.multiboot(kernel))
        machine.exits.on(hvmx.ExitReason.CPUID, ignore)
        laps.append(run_to_halt(machine, kernel))

    benchmark.pedantic(lap, setup=lap_of_hooks, rounds=LAPS)
    cost = min(laps) / EXITS
    beside = f"Unicorn's hook {min(hooks) / EXITS * 1e9:.0f} ns" if hooks else f"Unicorn: {unicorn_missing}"
    report.append(f"exit to a Python handler: {cost * 1e9:.0f} ns ({beside})")
    benchmark.extra_info["host ns per exit"] = cost * 1e9
    assert cost <= EXIT_LIMIT_SECONDS


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
    kernel = Kernel("vmcall", HYPERCALLS)
    laps: list[float] = []

    def lap() -> None:
        machine = start(images.multiboot(kernel))
        laps.append(run_to_halt(machine, kernel))
        assert machine.cpu.rbx == 0, f"the hypercall answered {machine.cpu.rbx:#x}"

    benchmark.pedantic(lap, rounds=LAPS)
    _assert_hypercall_cost("VMCALL from HVM", min(laps), benchmark, report)


def test_a_syscall_hypercall_through_the_table(benchmark: BenchmarkFixture, report: list[str]) -> None:
    kernel = Kernel("hypercall", HYPERCALLS)
    laps: list[float] = []
    cycles: set[int] = set()

    def lap() -> None:
        machine = start(images.xen_pv(kernel), pv=True)
        begin = time.perf_counter()
        machine.run()
        laps.append(time.perf_counter() - begin)
        cycles.add(machine.cpu.cycles)
        assert machine.cpu.rbx == 0, f"{machine.cpu.rbx} hypercalls were left when the guest stopped"
        assert machine.cpu.rbp >> 16 >= OLDEST_XEN, f"version {machine.cpu.rbp:#x} is no Xen"

    benchmark.pedantic(lap, rounds=LAPS)
    assert len(cycles) == 1, f"guest cycles differ between runs: {cycles}"
    _assert_hypercall_cost("SYSCALL from PV", min(laps), benchmark, report)


def _assert_hypercall_cost(way: str, seconds: float, benchmark: BenchmarkFixture, report: list[str]) -> None:
    """The loop around the hypercall is in the time."""
    cost = seconds / HYPERCALLS
    report.append(f"hypercall, {way}: {cost * 1e9:.1f} ns")
    benchmark.extra_info["host ns per hypercall"] = cost * 1e9
    assert cost <= HYPERCALL_LIMIT_SECONDS
