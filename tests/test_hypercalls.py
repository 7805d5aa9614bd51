"""Hypercalls: the guest has the same of them whoever answers, a C function or a handler in Python."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from bare_guest import FLAT_CODE32, FLAT_DATA32, START, bare
from exit_guests import FLAT_CODE64, RING3, Seen, answer, of_the_guest, pv_guest, refuse, state_of
from pv.kernel import assemble

from hvmx import ExitReason, Machine, StopKind, guests
from hvmx.cost import FRACTION
from hvmx.debug.trace import trace_exits
from hvmx.exits import detail_name
from hvmx.vocabulary import Charge

if TYPE_CHECKING:
    from hvmx.core.exit_info import Exit
    from hvmx.core.vcpu import Vcpu
    from hvmx.pv.xen import Call

# --- VMCALL -------------------------------------------------------------------------------------------------------------
NOTHING, PAIRING = 1, 9
"""Of KVM's calls: one that does nothing, and one that tells the time."""
VMCALL, VMMCALL = "0f01c1", "0f01d9"
EPERM, ENOSYS = -1 & 0xFFFF_FFFF, -1000 & 0xFFFF_FFFF


def calling(*numbers: int, instruction: str = VMCALL) -> Machine:
    """A guest that makes these calls with RBX = 0x2000 and halts."""
    calls = "".join(f"b8{number.to_bytes(4, 'little').hex()}{instruction}" for number in numbers)
    machine = bare(f"bb00200000 31c9 {calls} f4")
    machine.hypercalls.set_costs({NOTHING: 70 * FRACTION, 80: 30 * FRACTION})
    return machine


@pytest.mark.parametrize("instruction", [VMCALL, VMMCALL])
def test_calls_that_c_functions_answer_are_exits_by_their_numbers(instruction: str) -> None:
    machine = calling(NOTHING, PAIRING, NOTHING, instruction=instruction)
    assert machine.run().kind is StopKind.HALTED
    price = machine.profile.exits[ExitReason.VMCALL].cycles
    row = machine.exits.statistics()[ExitReason.VMCALL]
    assert (row.count, row.guest_cycles) == (3, 3 * price + 2 * 70)
    assert (row.guest_cycles_min, row.guest_cycles_max) == (price, price + 70)
    assert {number: (one.count, one.guest_cycles) for number, one in row.detail.items()} == {
        NOTHING: (2, 2 * (price + 70)),
        PAIRING: (1, price),
    }
    assert set(row.as_json(partial(detail_name, ExitReason.VMCALL))["detail"]) == {"hypercall 1", "hypercall 9"}
    assert machine.exits.total == sum(one.count for one in machine.exits.statistics().values())


@pytest.mark.parametrize("instruction", [VMCALL, VMMCALL])
def test_a_handler_of_vmcall_gets_all_calls_and_may_leave_them_to_the_table(instruction: str) -> None:
    numbers = (NOTHING, PAIRING, 99)
    machine = calling(*numbers, instruction=instruction)
    seen: list[tuple[int, int, int, int, int]] = []

    def handler(vcpu: Vcpu, exit: Exit) -> None:
        seen.append((vcpu.rip, exit.length, exit.qualification, exit.number, vcpu.rax))
        before(vcpu, exit)

    before = machine.exits.on(ExitReason.VMCALL, handler)
    assert before is not None
    assert machine.run().kind is StopKind.HALTED
    assert seen == [(START + 12 + 8 * index, 3, 0, number, number) for index, number in enumerate(numbers)]
    assert machine.cpu.rax == ENOSYS
    machine = calling(NOTHING)
    machine.exits.on(ExitReason.VMCALL, lambda vcpu, exit: setattr(vcpu, "rax", 0x5A))
    machine.run()
    assert machine.cpu.rax == 0x5A and machine.hypercalls.counts() == {}


def leave_to_the_table(machine: Machine) -> None:
    """By way of a handler in Python."""

    def handler(vcpu: Vcpu, exit: Exit) -> None:
        before(vcpu, exit)

    before = machine.exits.on(ExitReason.VMCALL, handler)
    assert before is not None


@pytest.mark.parametrize("way", ["handler", "trace", "steps"])
def test_who_answers_a_call_is_nothing_to_the_guest(way: str) -> None:
    """By C, by way of Python, stepping: the same registers, memory, cycles and counts."""
    ran: list[Machine] = []
    for other in (False, True):
        machine = calling(NOTHING, PAIRING, 80, 99, NOTHING, 1 << 31)
        machine.hypercalls.register(80, lambda call: call.charge(1000) or 7)
        if other and way == "handler":
            leave_to_the_table(machine)
        if other and way == "trace":
            trace_exits(machine, io.StringIO())
        if other and way == "steps":
            while not machine.cpu.halted:
                machine.step()
        machine.run()
        ran.append(machine)
    c, python = ran
    assert python.state_hash() == c.state_hash()
    assert python.cycles == c.cycles and python.cpu.instructions == c.cpu.instructions
    assert of_the_guest(python) == of_the_guest(c)


def test_counts_are_right_whenever_they_are_read() -> None:
    """Also within a call that a Python function answers, and when a number's price changes between its calls."""
    machine = calling(NOTHING, NOTHING, 80, NOTHING, 80, NOTHING)
    counts: list[int] = []

    def look(call: Call) -> int:
        row = machine.exits.statistics()[ExitReason.VMCALL]
        counts.append(row.count)
        machine.hypercalls.set_costs({NOTHING: 5 * len(counts) * FRACTION})
        return 0

    machine.hypercalls.register(80, look)
    machine.run()
    assert counts == [2, 4], "calls that have ended"
    row = machine.exits.statistics()[ExitReason.VMCALL]
    price = machine.profile.exits[ExitReason.VMCALL].cycles
    assert row.detail[NOTHING].guest_cycles == 4 * price + 2 * 70 + 5 + 10
    assert (row.detail[NOTHING].guest_cycles_min, row.detail[NOTHING].guest_cycles_max) == (
        price + 5,
        price + 70,
    )
    assert (row.count, row.detail[NOTHING].count, row.detail[80].count) == (6, 4, 2)


def test_a_handler_is_taken_back() -> None:
    machine = calling(NOTHING)
    before = machine.exits.on(ExitReason.VMCALL, refuse)
    with pytest.raises(Seen):
        machine.run()
    assert machine.cpu.rip == START + 12 and machine.cpu.rax == NOTHING
    assert before is not None and machine.exits.on(ExitReason.VMCALL, before) is refuse
    assert machine.run().kind is StopKind.HALTED
    row = machine.exits.statistics()[ExitReason.VMCALL]
    assert (machine.cpu.rax, row.count) == (0, 1)
    assert ExitReason.VMCALL not in machine.cpu.exit_statistics(), "answered in C again"


def test_the_table_of_another_machine_is_no_handler() -> None:
    tables = [machine.exits.on(ExitReason.VMCALL, answer) for machine in (calling(), calling())]
    machine = calling(NOTHING)
    assert tables[0] is not None
    with pytest.raises(ValueError, match="another machine"):
        machine.exits.on(ExitReason.VMCALL, tables[0])
    machine.exits.on(ExitReason.VMCALL, lambda vcpu, exit: tables[1] and tables[1](vcpu, exit))
    with pytest.raises(ValueError, match="another machine"):
        machine.run()


def test_traces_have_a_line_for_each_call() -> None:
    machine, lines = calling(NOTHING, 99), io.StringIO()
    trace_exits(machine, lines)
    machine.run()
    calls = [line.split()[1:] for line in lines.getvalue().splitlines() if "VMCALL" in line]
    assert calls == [
        [f"{START + at:#018x}", "VMCALL", "hypercall", number] for at, number in ((12, "1"), (20, "99"))
    ]


@pytest.mark.parametrize("instruction", [VMCALL, VMMCALL])
def test_a_call_above_ring_0_is_counted_and_not_permitted(instruction: str) -> None:
    machine = calling(NOTHING, instruction=instruction)
    for name, rights in (("cs", FLAT_CODE32), ("ss", FLAT_DATA32)):
        machine.cpu.set_segment(name, 0x1B if name == "cs" else 0x23, 0, 0xFFFF_FFFF, rights | RING3)
    machine.run(cycles=10_000)
    assert machine.cpu.rax == EPERM
    assert machine.exits.statistics()[ExitReason.VMCALL].detail[NOTHING].count == 1
    assert machine.hypercalls.counts() == {}


def test_a_number_beyond_32_bits_is_no_small_one() -> None:
    machine = bare("48b80100000001000000 0f01c1 f4")  # mov rax, 0x1_0000_0001; vmcall
    machine.cpu.cr4 |= 0x20
    machine.cpu.write(0x9000, (0xA007).to_bytes(8, "little"))
    machine.cpu.write(0xA000, (0xB007).to_bytes(8, "little"))
    machine.cpu.write(0xB000, (0x87).to_bytes(8, "little"))
    machine.cpu.cr3 = 0x9000
    machine.cpu.efer = 0x500
    machine.cpu.cr0 |= 0x8000_0000
    machine.cpu.set_segment("cs", 8, 0, 0xFFFF_FFFF, FLAT_CODE64)
    machine.run()
    assert machine.cpu.rax == -1000 & (1 << 64) - 1
    assert list(machine.exits.statistics()[ExitReason.VMCALL].detail) == [0xFFFF_FFFF]
    assert machine.hypercalls.counts() == {"beyond the table": 1}


def test_vmcall_of_a_pv_guest_is_undefined() -> None:
    for instruction in ("vmcall", "vmmcall"):
        stop = pv_guest(instruction).run()
        assert (stop.kind, "#UD" in stop.reason) == (StopKind.CRASHED, True), stop


# --- hypercalls in Python that raise ------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["vmcall", "pv", "pv in a multicall"])
def test_a_hypercall_that_raises_has_not_happened(kind: str) -> None:
    """Whole, and stepped: before the instruction each time; and the run goes on as if it had not been. What came before
    the call is complete: that takes its time, whether the call is answered or not."""

    def prepared(function: Callable[[Call], int]) -> Machine:
        if kind == "vmcall":
            machine = calling(NOTHING, 80)
        elif kind == "pv":
            machine = pv_guest(
                "mov $0x33, %ecx; mov $0x44, %r11d; mov $5, %edi; hypercall 80\n mov %rax, %rbx"
            )
        else:
            machine = pv_guest(
                "lea calls(%rip), %rdi; mov $2, %esi; hypercall 13\n mov calls+8(%rip), %rbx",
                "calls: .quad 80, 0, 5, 0, 0, 0, 0, 0\n .quad 17, 0, 0, 0, 0, 0, 0, 0\n",
            )
        machine.hypercalls.register(80, function)
        return machine

    def refuse_call(call: Call) -> int:
        call.charge(12345)
        raise Seen if failing else AssertionError

    good = prepared(lambda call: call.charge(12345) or 7)
    good.run()
    failing, other = True, prepared(refuse_call)
    with pytest.raises(Seen):
        other.run()
    before = state_of(other)
    for again in (other.run, other.step, lambda: other.run(cycles=1_000_000), other.cpu.run):
        with pytest.raises(Seen):
            again()
        assert state_of(other) == before
    steps = prepared(refuse_call)
    for _ in range(100):
        was = state_of(steps)
        try:
            steps.step()
        except Seen:
            break
    assert state_of(steps)[0] == was[0] == before[0]
    assert state_of(steps)[1:3] == before[1:3] and steps.cpu.instructions == was[2]
    assert 0 <= steps.cycles - was[1] <= steps.profile.pipeline_tables().window
    stood = state_of(steps)
    with pytest.raises(Seen):
        steps.step()
    assert state_of(steps) == stood

    answers = iter((None, "x", 1 << 80, 7))

    def answer_late(call: Call) -> int:
        call.charge(12345)
        value: Any = next(answers)
        return value

    late = prepared(answer_late)
    for error in (TypeError, ValueError, OverflowError):
        with pytest.raises(error):
            late.run()
    late.run()
    assert state_of(late) == state_of(good)
    assert of_the_guest(late) == of_the_guest(good)
    assert late.cpu.charges() == good.cpu.charges()


def answering(made: list[int], failures: int) -> Callable[[Call], int]:
    """A hypercall that says what it was called with, and fails so often with 6."""
    left = failures

    def answer_call(call: Call) -> int:
        nonlocal left
        call.charge(1000)
        made.append(call.args[0])
        if call.args[0] == 6 and left:
            left -= 1
            raise Seen
        return call.args[0] + 100

    return answer_call


def test_a_multicall_goes_on_with_the_call_that_raised() -> None:
    """What the list's first calls have done is not done again."""
    made: list[int] = []
    machines = []
    for failures in (0, 2):
        entries = "".join(f".quad 80, 0, {argument}, 0, 0, 0, 0, 0\n" for argument in (5, 6, 7))
        machine = pv_guest(
            "lea calls(%rip), %rdi; mov $3, %esi; hypercall 13\n mov %rax, %rbp\n"
            "mov calls+8(%rip), %r12; mov calls+72(%rip), %r13; mov calls+136(%rip), %r14",
            "calls: " + entries,
        )
        machine.hypercalls.register(80, answering(made, failures))
        for _ in range(failures):
            with pytest.raises(Seen):
                machine.run()
        assert machine.run().kind is StopKind.POWEROFF
        cpu = machine.cpu
        assert (cpu.rbp, cpu.r12, cpu.r13, cpu.r14) == (0, 105, 106, 107)
        assert machine.hypercalls.counts()["hypercall 80"] == 3
        machines.append(machine)
    assert made == [5, 6, 7, 5, 6, 6, 6, 7]
    assert machines[1].cycles - machines[0].cycles < 1000, "two ways in more, and no call twice"


@pytest.mark.parametrize("kind", ["vmcall", "pv"])
def test_a_hypercall_may_inject_an_exception_in_its_place(kind: str) -> None:
    seen: list[int] = []
    machine = calling(80) if kind == "vmcall" else pv_guest("hypercall 80")
    machine.hypercalls.register(80, lambda call: machine.cpu.inject(6) or 7)
    machine.cpu.exception_bitmap |= 1 << 6

    def look(vcpu: Vcpu, exit: Exit) -> None:
        seen.append(vcpu.rip)
        raise Seen

    call = machine.cpu.rip
    machine.exits.on(ExitReason.EXCEPTION_NMI, look)
    with pytest.raises(Seen):
        machine.run()
    assert seen == [machine.cpu.rip] and machine.cpu.rip > call
    assert machine.cpu.rax == 80


def test_a_call_of_a_list_that_injects_an_exception_is_counted_and_takes_no_time() -> None:
    """It takes the place of the whole list where it is its first call; else the list ends before it, and begins anew there."""

    def inject(call: Call) -> int:
        call.charge(1000)
        if call.args[0] == 6:
            machine.cpu.inject(6)
        return 0

    entries = "".join(f".quad 80, 0, {argument}, 0, 0, 0, 0, 0\n" for argument in (5, 6))
    machine = pv_guest("lea calls(%rip), %rdi; mov $2, %esi; hypercall 13", "calls: " + entries)
    machine.hypercalls.register(80, inject)
    assert machine.run().kind is StopKind.CRASHED, "no handler of #UD"
    assert machine.hypercalls.statistics()[80][0][:4] == (2, 1000, 0, 1000)
    assert machine.cpu.charges()[Charge.CALL] == (1, 1000 * FRACTION)


def test_a_hypercall_that_stops_the_machine_stops_it_before_the_next_instruction() -> None:
    machine = pv_guest("hypercall 80\n mov $9, %ebx")
    machine.hypercalls.register(80, lambda call: machine.stop() or 7)
    assert machine.run().kind is StopKind.REQUESTED
    assert machine.cpu.rax == 7 and machine.cpu.rbx != 9
    assert machine.run().kind is StopKind.POWEROFF
    assert machine.cpu.rbx == 9


def test_what_a_console_refuses_is_written_again() -> None:
    """Text of several pieces: each comes out once, whatever the sink raises between them."""
    got: list[bytes] = []
    refusals = [True, False, True, True, False]

    def sink(data: bytes) -> None:
        if refusals and refusals.pop(0):
            raise Seen
        got.append(data)

    machine = Machine("16M", board=False, serial=sink)
    code = "xor %edi, %edi; mov $1200, %esi; lea text(%rip), %rdx; hypercall 18\n mov %rax, %rbx\n"
    machine.load(assemble(code, data='text: .rept 300\n .ascii "abcd"\n .endr\n'), pv=True)
    for _ in range(3):
        with pytest.raises(Seen):
            machine.run()
    assert machine.run().kind is StopKind.POWEROFF
    assert b"".join(got) == b"abcd" * 300 and machine.cpu.rbx == 0


@pytest.mark.parametrize(
    ("kind", "no_such_call"), [("vmcall", -1000 & 0xFFFF_FFFF), ("pv", -38 & (1 << 64) - 1)]
)
def test_no_such_call_is_the_abis_own_number(kind: str, no_such_call: int) -> None:
    """Without a function, and where a function has not what was asked of it; counted either way."""
    for number in (80, 81):
        machine = calling(number) if kind == "vmcall" else pv_guest(f"hypercall {number}\n mov %rax, %rbx")
        machine.hypercalls.register(80, lambda call: -38)
        machine.run()
        assert (machine.cpu.rax if kind == "vmcall" else machine.cpu.rbx) == no_such_call
        assert machine.hypercalls.unanswered == 1


# --- what they came to ----------------------------------------------------------------------------------------------------
def test_statistics_of_a_pv_guest_are_its_counts_and_its_cycles() -> None:
    machine = Machine("64M")
    machine.load(guests.image("pv64"), pv=True, append="checks=no workloads=fork-wait,timer-tick")
    machine.run()
    found = machine.hypercall_statistics()
    assert {name: row.count for name, row in found.items()} == machine.hypercalls.counts()
    price = machine.profile.paravirtual.hypercall.cycles
    for name, row in found.items():
        assert row.guest_cycles_min * row.count <= row.guest_cycles <= row.guest_cycles_max * row.count, name
        if row.detail:
            assert sum(one.count for one in row.detail.values()) == row.count
            assert sum(one.guest_cycles for one in row.detail.values()) == row.guest_cycles
        assert 0 < row.host_ns_min <= row.host_ns_max, name
    iret = found["iret"]
    assert (iret.guest_cycles_min, iret.guest_cycles_max) == (price, price)
    assert set(found["mmuext_op"].detail) >= {3, 4, 15}, "pin_l4_table, unpin_table, new_user_baseptr"
    assert found["stack_switch"].guest_cycles == 0, "in a multicall the way in is paid for once"


def test_a_multicall_is_without_what_the_calls_within_it_take() -> None:
    machine = Machine("64M")
    machine.load(guests.image("pv64"), pv=True, append="checks=no workloads=pt-write-batch")
    machine.run()
    charges = machine.cpu.charges()
    of_hypercalls = sum(charges[kind][1] for kind in (Charge.HYPERCALL, Charge.CALL, Charge.UPDATE, Charge.ENTRY))
    assert sum(row.guest_cycles for row in machine.hypercall_statistics().values()) == of_hypercalls // FRACTION


def test_tracing_hypercalls_changes_nothing_for_the_guest() -> None:
    def run(traced: bool) -> Machine:
        machine = Machine("64M")
        machine.load(guests.image("pv64"), pv=True, append="checks=no workloads=pgfault,timer-tick")
        if traced:
            machine.hypercalls.trace(lambda rip, number, arguments, result: lines.append((rip, number, arguments, result)))
        machine.run()
        return machine

    lines: list[tuple[int, int, tuple[int, ...], int]] = []
    plain, traced = run(False), run(True)
    assert plain.state_hash() == traced.state_hash() and plain.cycles == traced.cycles
    assert plain.hypercalls.counts() == traced.hypercalls.counts()
    assert len(lines) == sum(traced.hypercalls.counts().values())


def pv_guest_of_faults() -> Machine:
    machine = Machine("64M")
    machine.load(guests.image("pv64"), pv=True, append="checks=no workloads=pgfault")
    return machine


@pytest.mark.parametrize("make", [pv_guest_of_faults, lambda: calling(NOTHING, PAIRING, NOTHING)], ids=["pv", "vmcall"])
def test_what_a_trace_raises_comes_out_of_the_run_and_the_call_has_been_made(make: Callable[[], Machine]) -> None:
    plain, traced, calls = make(), make(), 0

    def called(rip: int, number: int, arguments: tuple[int, ...], result: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Seen

    traced.hypercalls.trace(called)
    with pytest.raises(Seen):
        traced.run()
    plain.run()
    traced.run()
    assert traced.state_hash() == plain.state_hash() and traced.cycles == plain.cycles
    assert calls == sum(plain.hypercalls.counts().values())

