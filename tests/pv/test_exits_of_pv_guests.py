"""The exits of a PV guest: their handlers may do what any handler may."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from exit_guests import Seen, of_the_guest, pv_guest, refuse, state_of

from hvmx import ExitReason, Machine, StopKind

if TYPE_CHECKING:
    from hvmx.core.exit_info import Exit
    from hvmx.core.vcpu import Vcpu

FORCED_CPUID = ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2"
USE_PORTS = "mov $6, %edi; lea iopl(%rip), %rsi; hypercall 33\n"
PV_EXITING = {
    "in": (ExitReason.IO_INSTRUCTION, 2, "in $0x80, %al"),
    "out": (ExitReason.IO_INSTRUCTION, 2, "out %al, $0x80"),
    "insl": (ExitReason.IO_INSTRUCTION, 1, "lea iopl(%rip), %rdi; mov $0x80, %edx; insl"),
    "outsl": (ExitReason.IO_INSTRUCTION, 1, "lea iopl(%rip), %rsi; mov $0x80, %edx; outsl"),
    "cpuid": (ExitReason.CPUID, 7, f"xor %eax, %eax; {FORCED_CPUID}"),
}


def with_ports(code: str) -> Machine:
    return pv_guest(f"{USE_PORTS} {code}; mov %rax, %rbx", "iopl: .long 1\n")


@pytest.mark.parametrize("name", PV_EXITING)
def test_a_pv_guests_exit_that_raised_has_not_happened(name: str) -> None:
    reason, _, code = PV_EXITING[name]
    good, late = with_ports(code), with_ports(code)
    good.run()
    default = late.exits.on(reason, refuse)
    assert default is not None
    with pytest.raises(Seen):
        late.run()
    before = state_of(late), late.cpu.counters()["exceptions"]
    for again in (late.run, late.step):
        with pytest.raises(Seen):
            again()
        assert (state_of(late), late.cpu.counters()["exceptions"]) == before
    late.exits.on(reason, default)
    late.run()
    assert state_of(late) == state_of(good)
    figures = [of_the_guest(machine) for machine in (late, good)]
    for one in figures:
        del one["walk_references"]  # each time its operand was looked for
    assert figures[0] == figures[1]


@pytest.mark.parametrize("name", PV_EXITING)
def test_a_handler_of_a_pv_guests_exit_may_emulate_or_inject(name: str) -> None:
    reason, length, code = PV_EXITING[name]
    machine = with_ports(code)

    def emulate(vcpu: Vcpu, exit: Exit) -> None:
        assert exit.length == length
        vcpu.rax = 0x1234_5678_9ABC
        vcpu.rip += exit.length

    machine.exits.on(reason, emulate)
    assert machine.run().kind is StopKind.POWEROFF
    assert machine.cpu.rbx == 0x1234_5678_9ABC

    machine = with_ports(code)
    machine.exits.on(reason, lambda vcpu, exit: vcpu.inject(13, 0))
    stop = machine.run(timeout=20)
    assert stop.kind is StopKind.CRASHED and "#GP" in stop.reason
    assert machine.cpu.rbx != 0x1234_5678_9ABC
