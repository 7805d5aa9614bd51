"""Traces: a line for each exit, hypercall or instruction."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

from hvmx.exits import ExitReason, exit_name
from hvmx.hvm.controls import PAGE_FAULT
from hvmx.pv.numbers import KVM_HYPERCALLS, XEN_HYPERCALLS, call_in_words

from .code import disassemble, linear_ip

if TYPE_CHECKING:
    from hvmx.core.exit_info import Exit
    from hvmx.core.vcpu import Vcpu
    from hvmx.exits import Handler
    from hvmx.machine import Machine, Stop


def trace_exits(machine: Machine, out: TextIO) -> None:
    """From now on write a line for each exit that its handler completed: guest cycle, where, why, data."""

    def traced(reason: ExitReason, handler: Handler) -> Handler:
        def write(vcpu: Vcpu, exit: Exit) -> None:
            rip = vcpu.rip
            handler(vcpu, exit)
            out.write(f"{vcpu.cycles:>12}  {rip:#018x}  {_describe(reason, exit)}\n")

        return write

    for reason in ExitReason:
        handler = machine.cpu.handler(reason)
        if handler is not None:
            machine.cpu.set_handler(reason, traced(reason, handler))


def trace_hypercalls(machine: Machine, out: TextIO) -> None:
    """From now on write a line for each hypercall that was answered: guest cycle, where, the call, its result.

    Those within a multicall come before it. A call that goes on later, since it was preempted, has a line each time.
    """
    names = KVM_HYPERCALLS if machine.domain is None else XEN_HYPERCALLS

    def called(rip: int, number: int, arguments: tuple[int, ...], result: int) -> None:
        said = call_in_words(names, number, arguments)
        out.write(f"{machine.cpu.cycles:>12}  {rip:#018x}  {said} = {result if abs(result) < 4096 else hex(result)}\n")

    machine.hypercalls.trace(called)


def _describe(reason: ExitReason, exit: Exit) -> str:
    if reason is ExitReason.EPT_VIOLATION:
        return f"{reason.name} {exit.guest_physical:#x} linear {exit.guest_linear:#x}"
    mmio = reason is ExitReason.EPT_MISCONFIG
    text = f"{reason.name} {exit.guest_physical:#x}" if mmio else exit_name(reason, exit.number)
    if mmio or reason is ExitReason.IO_INSTRUCTION:
        return f"{text} {'write' if exit.is_write else 'read'} {exit.width} bytes: {exit.value:#x}"
    if reason is ExitReason.EXCEPTION_NMI:
        address = f" address {exit.guest_linear:#x}" if exit.vector == PAGE_FAULT else ""
        return f"{text} error {exit.error_code:#x}{address}"
    if reason in (ExitReason.MSR_READ, ExitReason.MSR_WRITE, ExitReason.CR_ACCESS):
        return f"{text} value {exit.value:#x}"
    return text


def run_traced(machine: Machine, out: TextIO, cycles: int | None, timeout: float | None) -> Stop:
    """As ``machine.run``, in single steps, with a line before each instruction: guest cycle, address, bytes, text."""
    from hvmx.stops import Stop, StopKind

    cpu = machine.cpu
    end = None if cycles is None else cpu.cycles + cycles
    limit = None if timeout is None else time.monotonic() + timeout
    while True:
        if end is not None and cpu.cycles >= end:
            return Stop(StopKind.CYCLES)
        if limit is not None and time.monotonic() >= limit:
            return Stop(StopKind.TIMEOUT)
        if not cpu.halted:
            out.write(f"{cpu.cycles:>12}  {disassemble(cpu, linear_ip(cpu))}\n")
        before = cpu.instructions
        stop = machine.step(None if limit is None else max(0.0, limit - time.monotonic()))
        if cpu.instructions == before and not cpu.halted:
            out.write(f"{cpu.cycles:>12}  did not complete: goes on at {linear_ip(cpu):#x}\n")
        if stop.kind is not StopKind.STEP:
            return stop
