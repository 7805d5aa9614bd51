"""What a processor asks of its platform and of its host, when, and what it makes of the answers."""

from __future__ import annotations

import pytest
from pv.kernel import assemble
from test_machine import START, bare

from hvmx import ExitReason, Machine, StopKind
from hvmx.platform import Host, Platform
from hvmx.vocabulary import CoreStop

VECTOR, HANDLER, IDT, GDT, STACK = 0x21, 0x3000, 0x2000, 0x4000, 0x8000


def interruptible(code: str, handler: str = "f4") -> Machine:
    """A bare machine, whose interrupt 0x21 goes to the instructions ``handler``."""
    machine = bare(code)
    cpu = machine.cpu
    cpu.write(IDT + 8 * VECTOR, (HANDLER | 8 << 16 | 0x8E00 << 32).to_bytes(8, "little"))
    cpu.write(HANDLER, bytes.fromhex(handler))
    cpu.write(GDT + 8, 0x00CF9B000000FFFF.to_bytes(8, "little"))
    cpu.gdtr, cpu.idtr, cpu.rsp = (GDT, 0xF), (IDT, 0x7FF), STACK
    return machine


class Simulator(Platform):
    """One timer, one interrupt, one port and one register."""

    def __init__(self, machine: Machine, due: int | None = None, vector: int = VECTOR) -> None:
        self.cpu, self.due, self.vector = machine.cpu, due, vector
        self.asked, self.written = 0, [0, 0]

    def acknowledge_interrupt(self) -> int:
        self.cpu.set_interrupt(False)
        return self.vector

    def next_event(self) -> int | None:
        self.asked += 1
        return self.due

    def advance(self, now: int) -> None:
        assert self.due is not None and now >= self.due
        self.due = None
        self.cpu.set_interrupt(True)

    def read_port(self, port: int, width: int) -> int:
        return self.written[0]

    def write_port(self, port: int, width: int, value: int) -> None:
        self.written[0] = value
        self.due = self.cpu.cycles + value

    def read_mmio(self, address: int, width: int) -> int:
        return self.written[1]

    def write_mmio(self, address: int, width: int, value: int) -> None:
        self.written[1] = value


# --- the platform -----------------------------------------------------------------------------------------------------
def test_a_timer_of_the_platform_wakes_a_guest_at_its_cycle() -> None:
    machine = interruptible("fb f4")  # sti; hlt
    machine.cpu.platform = Simulator(machine, due=50_000)
    assert machine.run(timeout=20).kind is StopKind.HALTED
    assert machine.cpu.rip == HANDLER + 1
    assert machine.cycles >= 50_000


def test_a_deadline_that_an_access_of_the_guest_sets_is_heard_of() -> None:
    machine = interruptible("fb b8e8030000 e680 ebfe")  # sti; mov eax, 1000; out 0x80, al; jmp .
    machine.cpu.platform = platform = Simulator(machine)
    assert machine.run(cycles=10_000_000).kind is StopKind.HALTED
    assert platform.written[0] == 0xE8


def test_ports_and_registers_go_to_the_platform() -> None:
    # mov al, 7; out 0x80, al; in al, 0x80; mov [0xfed40000], al; mov bl, [0xfed40000]; hlt
    machine = bare("b007 e680 e480 a20000d4fe 8a1d0000d4fe f4")
    machine.cpu.platform = platform = Simulator(machine)
    machine.run(timeout=20)
    assert (machine.cpu.bl, platform.written) == (7, [7, 7])


def test_the_platform_is_asked_after_its_own_accesses_and_after_no_other_exit() -> None:
    machine = bare("0fa2 e481 e480 f4")  # cpuid; in al, 0x81; in al, 0x80; hlt
    machine.exits.on_ports(0x81, 1, lambda cpu, exit: None)
    machine.cpu.platform = platform = Simulator(machine)
    machine.run(cycles=0)
    before = platform.asked
    machine.cpu.run()
    assert machine.exits.statistics()[ExitReason.IO_INSTRUCTION].count == 2
    assert platform.asked == before + 1


def test_what_a_platform_leaves_out_is_as_with_nothing_plugged_in() -> None:
    class Least(Platform):
        pass

    # in al, 0x80; out 0x80, al; mov ebx, [0xfed40000]; mov [0xfed40000], ebx; hlt
    machine = bare("e480 e680 8b1d0000d4fe 891d0000d4fe f4")
    machine.cpu.platform = Least()
    assert machine.run(timeout=20).kind is StopKind.HALTED
    assert (machine.cpu.al, machine.cpu.ebx) == (0xFF, 0xFFFF_FFFF)
    machine = interruptible("fb ebfe")
    machine.cpu.platform = Least()
    machine.cpu.set_interrupt(True)
    with pytest.raises(RuntimeError, match="Least has no interrupt controller"):
        machine.run(timeout=20)


@pytest.mark.parametrize("vector", [-2, 256, 1 << 40])
def test_a_vector_that_there_is_not_comes_out_as_an_error(vector: int) -> None:
    machine = interruptible("fb 90 ebfe")
    machine.cpu.platform = Simulator(machine, vector=vector)
    machine.cpu.set_interrupt(True)
    with pytest.raises((ValueError, OverflowError)):
        machine.run(timeout=20)
    assert machine.run(cycles=1000).kind is StopKind.CYCLES


def test_what_a_device_raises_comes_out_and_it_is_called_again() -> None:
    machine = interruptible("fb f4")
    platform = Simulator(machine, due=1000)
    advance, failures = platform.advance, [KeyError("not yet")]

    def fail(now: int) -> None:
        if failures:
            raise failures.pop()
        advance(now)

    platform.advance = fail  # type: ignore[method-assign]
    machine.cpu.platform = platform
    with pytest.raises(KeyError, match="not yet"):
        machine.run(timeout=20)
    assert machine.run(timeout=20).kind is StopKind.HALTED
    assert machine.cpu.rip == HANDLER + 1


def sleeper(nanoseconds: int) -> Machine:
    """A domain that waits for so long and shuts down."""
    machine = Machine("16M", board=False)
    wait, power_off = "mov $3, %edi; lea poll(%rip), %rsi; hypercall 29", "mov $2, %edi; lea reason(%rip), %rsi; hypercall 29"
    data = f"poll: .quad 0, 0, {nanoseconds}\nreason: .long 0\n"
    machine.load(assemble(f"{wait}\n{power_off}\n", data=data), pv=True)
    return machine


def test_a_domains_timer_is_not_lost_where_the_platform_alone_is_asked_again() -> None:
    machine = sleeper(5_000_000)
    assert machine.run(cycles=1_000_000).kind is StopKind.CYCLES
    machine.cpu.reschedule()
    machine.cpu.deadline = None
    assert machine.cpu.run() == CoreStop.REQUESTED, "halted for good"
    assert machine.run().kind is StopKind.POWEROFF
    assert machine.cycles == pytest.approx(machine.profile.hz * 0.005, rel=0.01)


def test_a_platform_given_to_a_domain_has_its_events_at_their_cycles() -> None:
    machine = sleeper(5_000_000)
    seen: list[int] = []

    class Alarms(Platform):
        def next_event(self) -> int | None:
            return (len(seen) + 1) * 3_000_000 if len(seen) < 3 else None

        def advance(self, now: int) -> None:
            seen.append(now)

    machine.cpu.platform = Alarms()
    assert machine.run(timeout=20).kind is StopKind.POWEROFF
    assert [now // 3_000_000 for now in seen] == [1, 2, 3]
    assert machine.cycles == pytest.approx(machine.profile.hz * 0.005, rel=0.01)


# --- the host ---------------------------------------------------------------------------------------------------------
class Typist(Host):
    """Wakes an idle guest, looks for input and ends the run."""

    def __init__(self, machine: Machine) -> None:
        self.cpu = machine.cpu
        self.looks: list[int] = []
        self.polls = self.idle = 0

    def on_idle(self) -> bool:
        self.idle += 1
        if self.idle == 3:
            self.cpu.set_interrupt(True)
        return self.idle <= 3

    def on_input(self) -> None:
        self.looks.append(self.cpu.cycles)
        if len(self.looks) < 3:
            self.cpu.input_at = self.cpu.cycles + 1000

    def on_poll(self) -> None:
        self.polls += 1
        if self.polls == 3:
            self.cpu.stop()


def test_a_host_is_asked_while_the_guest_is_idle_until_it_has_no_more() -> None:
    machine = interruptible("fb f4")
    machine.cpu.platform, machine.cpu.host = Simulator(machine), Typist(machine)
    assert machine.run().kind is StopKind.HALTED
    assert (machine.cpu.host.idle, machine.cpu.rip) == (4, HANDLER + 1)


def test_input_is_looked_for_as_long_as_the_host_names_a_cycle() -> None:
    machine = bare("ebfe")
    machine.cpu.host = typist = Typist(machine)
    machine.cpu.input_at = 500
    machine.cpu.run(cycles=20_000)
    first, second, third = typist.looks
    assert first >= 500 and 1000 <= second - first < 1100 and 1000 <= third - second < 1100
    assert machine.cpu.input_at is None


def test_a_look_for_input_that_raises_is_made_again() -> None:
    machine = bare("ebfe")
    machine.cpu.host = typist = Typist(machine)
    machine.cpu.input_at = 500
    typist.looks = None  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        machine.cpu.run(cycles=20_000)
    assert machine.cpu.input_at == 500


def test_the_host_ends_a_run_that_has_no_end() -> None:
    machine = bare("ebfe")
    machine.cpu.host = typist = Typist(machine)
    assert machine.run().kind is StopKind.REQUESTED
    assert typist.polls == 3 and machine.cpu.rip == START
