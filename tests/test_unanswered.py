"""What a guest asks for that is not there is counted and listed, by number: no silent success."""

from __future__ import annotations

from bare_guest import bare

from hvmx import ExitReason, Machine
from hvmx.unanswered import unanswered


def guest(code: str) -> Machine:
    """A machine with a board that has run 32-bit code to its HLT."""
    machine = Machine("16M")
    machine.load(bytes.fromhex(code), load_address=0x10_0000, entry=0x10_0000, bits=32)
    machine.run()
    return machine


def test_ports_without_a_device_are_listed_by_direction() -> None:
    machine = guest("66ba0010 ed ec 66ef f4")  # mov dx, 0x1000; in eax, dx; in al, dx; out dx, ax; hlt
    assert unanswered(machine)["ports"] == {"0x1000": {"reads": 2, "writes": 1}}
    assert machine.statistics()["unanswered"] == unanswered(machine)


def test_memory_without_a_device_is_listed_by_direction() -> None:
    machine = guest("a1 0000d4fe a3 0800d4fe f4")  # mov eax, [0xfed40000]; mov [0xfed40008], eax; hlt
    assert unanswered(machine)["mmio"] == {
        "0xfed40000": {"reads": 1, "writes": 0},
        "0xfed40008": {"reads": 0, "writes": 1},
    }


def test_msrs_that_the_processor_has_not_are_listed_and_those_that_it_has_are_not() -> None:
    machine = bare("b9990900c0 0f32 f4")  # mov ecx, 0xc0000999; rdmsr; hlt
    machine.exits.on(ExitReason.MSR_READ, lambda vcpu, exit: None)
    machine.run()
    assert unanswered(machine) == {"msrs": {"0xc0000999": {"reads": 1, "writes": 0}}}
    machine = bare("b977020000 0f32 f4")  # mov ecx, 0x277 (IA32_PAT); rdmsr; hlt
    machine.run()
    assert unanswered(machine) == {"msrs": {}}
