"""What an instruction costs by a profile: its class, and what it does in memory."""

from __future__ import annotations

import pytest

from hvmx import ExitReason, Machine, StopKind
from hvmx.cost import BUNDLED, load_profile

CODE, DATA, TIMES = 0x100000, 0x200000, 500
HALT = bytes.fromhex("f4")

INSTRUCTIONS = {
    "add rax, rbx": ("4801d8", ("alu",)),
    "mov rax, [rsi]": ("488b06", ("mov", "load")),
    "mov [rsi], rax": ("488906", ("mov", "store")),
    "add rax, [rsi]": ("480306", ("alu", "load")),
    "add [rsi], rax": ("480106", ("alu", "load", "store")),
    "cmp [rsi], rax": ("483906", ("alu", "load")),
    "lock add [rsi], rax": ("f0480106", ("alu", "load", "store", "locked")),
    "cmpxchg rbx, rcx": ("480fb1cb", ("cmpxchg",)),
    "lock cmpxchg [rsi], rcx": ("f0480fb10e", ("cmpxchg", "load", "store", "locked")),
    "xchg rbx, rcx": ("4887cb", ("xchg",)),
    "xchg [rsi], rcx": ("48870e", ("xchg", "load", "store", "locked")),
    "lock xchg [rsi], rcx": ("f048870e", ("xchg", "load", "store", "locked")),
    "push rax; pop rax": ("5058", ("push", "pop")),
    "pushf; popf": ("9c9d", ("pushf", "popf")),
    "call next": ("e800000000", ("call",)),
    "imul rax, rbx": ("480fafc3", ("imul",)),
    "nop": ("90", ("nop",)),
}


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_an_instruction_costs_its_class_and_what_it_does_in_memory(instruction: str, name: str) -> None:
    code, classes = INSTRUCTIONS[instruction]
    profile = load_profile(name)

    def cycles(times: int) -> float:
        machine = Machine("8M", profile, board=False)
        machine.load(bytes.fromhex(code) * times + HALT, load_address=CODE, bits=64)
        machine.cpu.rsi, machine.cpu.rsp = DATA, DATA + 0x1000
        assert machine.run().kind is StopKind.HALTED
        pages = machine.exits.statistics()[ExitReason.EPT_VIOLATION].guest_cycles
        walks = machine.cpu.counters()["walk_references"] * profile.page_reference.cycles
        return machine.cycles - pages - walks

    each = (cycles(2 * TIMES) - cycles(TIMES)) / TIMES
    assert each == pytest.approx(sum(profile.instructions[cost].cycles for cost in classes), abs=0.02)
