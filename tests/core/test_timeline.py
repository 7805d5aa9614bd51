"""What happens to the guest when: every exit, hypercall, delivery and turn once, at the same time however the guest is run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_hypercalls import NOTHING, calling, leave_to_the_table

from hvmx import ExitReason, Machine, StopKind, guests
from hvmx.core.vcpu import Vcpu
from hvmx.cost import FRACTION
from hvmx.platform import Platform
from hvmx.vocabulary import Control, Privilege, SpanKind

from .machine import MEMORY, STOP_HALTED, State, assemble, world

MULTICALL = 13
ROOM = 1 << 20
"""MOST_SPANS of timeline.h."""
WORKLOADS = "checks=no workloads=syscall,pgfault,timer-tick,ctx-switch,cpuid"
SHORT = "checks=no workloads=syscall"


def loaded(name: str, append: str = WORKLOADS, paging: str = "ept") -> Machine:
    machine = Machine("64M", "skylake", paging=paging)
    machine.load(guests.image(name), pv=name.startswith("pv"), append=append)
    machine.cpu.keep_timeline()
    return machine


def run(machine: Machine, cycles: int | None = None) -> Any:
    while machine.run(cycles).kind is StopKind.CYCLES:
        pass
    return spans_of(machine)


def spans_of(machine: Machine) -> Any:
    spans, dropped = machine.cpu.timeline()
    assert dropped == 0
    return spans


def of_kind(spans: Any, kind: int) -> Any:
    return spans[spans["kind"] == kind]


# --- the same however it is run -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", guests.NAMES)
@pytest.mark.parametrize("cycles", [31_337, 1_009])
def test_a_run_in_slices_has_the_timeline_of_a_whole_one(name: str, cycles: int) -> None:
    np.testing.assert_array_equal(run(loaded(name), cycles), run(loaded(name)))


@pytest.mark.parametrize("name", guests.NAMES)
@pytest.mark.parametrize("after", [0, None])
def test_translated_code_has_the_timeline_of_interpreted_code(name: str, after: int | None) -> None:
    machine = loaded(name)
    machine.cpu.translate_after = after
    np.testing.assert_array_equal(run(machine), run(loaded(name)))


@pytest.mark.parametrize("name", guests.NAMES)
def test_a_run_step_by_step_has_the_timeline_of_a_whole_one(name: str) -> None:
    whole, stepped = loaded(name, SHORT), loaded(name, SHORT)
    steps = 200_000
    for _ in range(steps):
        stepped.step()
    whole.run(stepped.cpu.cycles)
    assert whole.cpu.instructions == stepped.cpu.instructions
    np.testing.assert_array_equal(spans_of(stepped), spans_of(whole))
    assert len(of_kind(spans_of(stepped), SpanKind.PRIVILEGE)) > 10


@pytest.mark.parametrize("name", guests.NAMES)
def test_a_timeline_makes_no_difference_to_the_guest(name: str) -> None:
    watched = loaded(name)
    plain = Machine("64M", "skylake")
    plain.load(guests.image(name), pv=name.startswith("pv"), append=WORKLOADS)
    watched.run()
    plain.run()
    assert (watched.cpu.cycles, watched.state_hash()) == (plain.cpu.cycles, plain.state_hash())


def test_a_timeline_may_begin_in_either_mode_of_a_pv_guest() -> None:
    machine = loaded("pv64", SHORT)
    for mode in (Privilege.PV_USER, Privilege.PV_KERNEL, Privilege.PV_USER):
        while True:
            machine.step()
            modes = of_kind(spans_of(machine), SpanKind.PRIVILEGE)["number"]
            if len(modes) and modes[-1] == mode:
                break
        machine.cpu.keep_timeline()
        machine.step()
        assert of_kind(spans_of(machine), SpanKind.PRIVILEGE)["number"][0] == mode


# --- all of it ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", guests.NAMES)
@pytest.mark.parametrize("paging", ["ept", "shadow"])
def test_every_exit_is_a_span_that_lasts_what_it_costs(name: str, paging: str) -> None:
    machine = loaded(name, paging=paging)
    exits = of_kind(run(machine), SpanKind.EXIT)
    for reason, statistic in machine.exits.statistics().items():
        mine = exits[exits["number"] == reason]
        assert len(mine) == statistic.count
        assert (mine["end"] - mine["begin"]).sum() // FRACTION == statistic.guest_cycles
    assert len(exits) == machine.exits.total


def test_every_hypercall_of_a_pv_guest_is_a_span_and_those_of_a_list_are_within_it() -> None:
    machine = loaded("pv64")
    calls = of_kind(run(machine), SpanKind.HYPERCALL)
    end_of_list, inner = 0, 0
    for begin, end, number in zip(calls["begin"], calls["end"], calls["number"], strict=True):
        if begin < end_of_list:
            assert end <= end_of_list
            inner += 1
        elif number == MULTICALL:
            end_of_list = end
    assert inner > 100
    assert len(calls) - inner == machine.cpu.counters()["hypercalls"]


@pytest.mark.parametrize("name", guests.NAMES)
@pytest.mark.parametrize("kind", [SpanKind.PRIVILEGE, SpanKind.ADDRESS_SPACE])
def test_levels_and_address_spaces_follow_each_other_without_a_gap(name: str, kind: int) -> None:
    machine = loaded(name)
    spans = of_kind(run(machine), kind)
    assert spans["begin"][0] == 0
    assert spans["end"][-1] // FRACTION == machine.cpu.cycles
    np.testing.assert_array_equal(spans["begin"][1:], spans["end"][:-1])
    what = spans["number"] if kind == SpanKind.PRIVILEGE else spans["value"]
    assert (what[1:] != what[:-1]).all()


@pytest.mark.parametrize("name", ["hvm32", "hvm64"])
def test_interrupts_and_exceptions_are_those_that_are_counted(name: str) -> None:
    machine = loaded(name, WORKLOADS)
    spans = run(machine)
    counters = machine.cpu.counters()
    assert len(of_kind(spans, SpanKind.INTERRUPT)) == counters["interrupts"] > 0
    assert len(of_kind(spans, SpanKind.EXCEPTION)) == counters["exceptions"] > 0


def test_upcalls_and_exceptions_of_a_pv_guest_enter_its_kernel() -> None:
    machine = loaded("pv64")
    spans = run(machine)
    counters = machine.cpu.counters()
    assert len(of_kind(spans, SpanKind.UPCALL)) == counters["interrupts"] > 0
    # What Xen answers by itself, such as a privileged instruction, is no exception of the guest's.
    assert 0 < len(of_kind(spans, SpanKind.EXCEPTION)) < counters["exceptions"]
    kernel = of_kind(spans, SpanKind.PRIVILEGE)
    kernel = kernel[kernel["number"] == Privilege.PV_KERNEL]
    for entered in spans[spans["kind"] >= SpanKind.EXCEPTION]:
        assert ((kernel["begin"] <= entered["begin"]) & (entered["begin"] < kernel["end"])).any()


# --- one by one ---------------------------------------------------------------------------------------------------------
def watched(state: State) -> Vcpu:
    cpu = Vcpu(MEMORY)
    for at, data in state.memory.items():
        cpu.write(at, data)
    cpu.cr0, cpu.gdtr, cpu.idtr = state.cr0, state.gdtr, state.idtr
    for name, segment in state.segments.items():
        cpu.set_segment(name, *segment)
    for name, value in state.registers.items():
        setattr(cpu, name, value)
    cpu.controls = Control.HLT
    cpu.set_handler(ExitReason.HLT, lambda vcpu, exit: vcpu.halt())
    cpu.keep_timeline()
    return cpu


class Alarm(Platform):
    """An interrupt at a guest cycle."""

    def __init__(self, cpu: Vcpu, at: int) -> None:
        self.cpu, self.at = cpu, at

    def next_event(self) -> int | None:
        return self.at if self.cpu.cycles < self.at else None

    def advance(self, cycle: int) -> None:
        self.cpu.set_interrupt(True)

    def acknowledge_interrupt(self) -> int:
        self.cpu.set_interrupt(False)
        return 0x20


@pytest.mark.parametrize("slice_cycles", [None, 700])
def test_waiting_lasts_from_hlt_to_the_interrupt(slice_cycles: int | None) -> None:
    cpu = watched(world(32, assemble(32, ["sti; hlt; hlt"])[0]))
    cpu.platform = Alarm(cpu, 10_000)
    cpu.reschedule()
    while cpu.run(slice_cycles) != STOP_HALTED:
        pass
    spans = cpu.timeline()[0]
    (halted,) = of_kind(spans, SpanKind.EXIT)[:1]
    (waiting,) = of_kind(spans, SpanKind.WAITING)
    (entered,) = of_kind(spans, SpanKind.INTERRUPT)
    assert (waiting["begin"], waiting["end"]) == (halted["end"], 10_000 * FRACTION)
    assert entered["number"] == 0x20
    assert entered["begin"] == entered["end"] > waiting["end"]


def test_a_gate_changes_the_privilege_level_where_the_handler_is_entered() -> None:
    cpu = watched(world(32, assemble(32, ["nop; int 0x21"])[0], cpl=3))
    cpu.run()
    spans, _ = cpu.timeline()
    outer, inner = of_kind(spans, SpanKind.PRIVILEGE)
    (entered,) = of_kind(spans, SpanKind.SOFTWARE_INTERRUPT)
    assert (outer["number"], inner["number"]) == (Privilege.CPL3, Privilege.CPL0)
    assert outer["end"] == inner["begin"] == entered["begin"] > 0
    assert entered["number"] == 0x21


@pytest.mark.parametrize(
    ("source", "kind", "vector"),
    [
        ("int 0x10", SpanKind.SOFTWARE_INTERRUPT, 0x10),
        ("int3", SpanKind.EXCEPTION, 3),
        ("ud2", SpanKind.EXCEPTION, 6),
    ],
)
def test_a_call_of_the_bios_is_no_exception(source: str, kind: SpanKind, vector: int) -> None:
    cpu = watched(world(16, assemble(16, [source])[0]))
    cpu.run()
    spans, _ = cpu.timeline()
    (entered,) = spans[spans["kind"] >= SpanKind.EXCEPTION]
    assert (entered["kind"], entered["number"]) == (kind, vector)


def test_cr3_changes_at_the_end_of_the_instruction_that_loads_it() -> None:
    cpu = watched(world(32, assemble(32, ["mov eax, 0x5000; mov cr3, eax; cpuid; hlt"])[0]))
    cpu.set_handler(ExitReason.CPUID, lambda vcpu, exit: None)
    cpu.run()
    spans, _ = cpu.timeline()
    before, after = of_kind(spans, SpanKind.ADDRESS_SPACE)
    assert (before["value"], after["value"]) == (0, 0x5000)
    assert 0 < before["end"] == after["begin"] <= of_kind(spans, SpanKind.EXIT)[0]["begin"]


def test_what_is_set_from_python_has_been_before() -> None:
    cpu = watched(world(32, b"\xf4"))
    cpu.charge(100)
    cpu.cr3 = 0x5000
    cpu.charge(50)
    spans = of_kind(cpu.timeline()[0], SpanKind.ADDRESS_SPACE)
    assert [(begin // FRACTION, end // FRACTION, value) for begin, end, value, *_ in spans.tolist()] == [
        (0, 100, 0),
        (100, 150, 0x5000),
    ]


def test_a_call_of_vmcall_is_the_same_span_whoever_answers_it() -> None:
    found = []
    for in_python in (False, True):
        machine = calling(NOTHING, 99, NOTHING)
        if in_python:
            leave_to_the_table(machine)
        machine.cpu.keep_timeline()
        machine.run()
        found.append(spans_of(machine))
    np.testing.assert_array_equal(*found)
    exits = of_kind(found[0], SpanKind.EXIT)
    assert exits[exits["number"] == ExitReason.VMCALL]["value"].tolist() == [NOTHING, 99, NOTHING]


def test_an_exit_whose_handler_raised_is_a_span_when_it_has_been_answered() -> None:
    cpu = watched(world(32, assemble(32, ["cpuid; hlt"])[0]))
    outcomes = iter([ValueError, None])

    def handler(vcpu: Vcpu, exit: Any) -> None:
        if problem := next(outcomes):
            raise problem

    cpu.set_handler(ExitReason.CPUID, handler)
    with pytest.raises(ValueError):
        cpu.run()
    assert not len(of_kind(cpu.timeline()[0], SpanKind.EXIT))
    cpu.run()
    assert of_kind(cpu.timeline()[0], SpanKind.EXIT)["number"].tolist() == [ExitReason.CPUID, ExitReason.HLT]


def test_what_has_no_room_is_counted() -> None:
    times = ROOM + 1000
    source = f"mov ebx, {times}; 1: mov eax, {NOTHING}; .byte 0x0f, 0x01, 0xc1; dec ebx; jnz 1b; hlt"
    machine = calling()
    machine.cpu.write(machine.cpu.rip, assemble(32, [source])[0])
    machine.cpu.keep_timeline()
    machine.run()
    spans, dropped = machine.cpu.timeline()
    exits = of_kind(spans, SpanKind.EXIT)
    assert len(exits) == ROOM
    assert len(exits) + dropped == machine.exits.total > times
    assert of_kind(spans, SpanKind.PRIVILEGE)["end"][-1] // FRACTION == machine.cpu.cycles


def test_a_timeline_is_asked_for_first_and_can_begin_anew() -> None:
    cpu = Vcpu(MEMORY)
    with pytest.raises(RuntimeError, match="keep_timeline"):
        cpu.timeline()
    cpu.keep_timeline()
    cpu.charge(100)
    cpu.keep_timeline()
    cpu.charge(10)
    spans, _ = cpu.timeline()
    assert {(begin // FRACTION, end // FRACTION) for begin, end, *_ in spans.tolist()} == {(100, 110)}
