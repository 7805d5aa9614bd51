"""Breakpoints on instructions and ports (SDM vol. 3, 17.2 and 17.3); on data and by single steps: snippets/debug.py."""

from __future__ import annotations

import pytest

from .machine import CODE, STUBS, State, assemble, run_hvmx, world

DEBUG_HANDLER = STUBS + 16 + 1  # has halted
DE = 8
MET = 0xF  # B0 to B3 of DR6


def _run(source: str, *addresses: int, dr7: int, cr4: int = 0) -> State:
    state = world(32, assemble(32, [source])[0])
    state.dr = tuple([*addresses, 0, 0, 0, 0][:4])
    state.dr7, state.cr4 = dr7 | 0x400, cr4
    return run_hvmx(state)


def _return_address(state: State) -> int:
    return int.from_bytes(state.memory[0][state.registers["rsp"] :][:4], "little")


def test_dr6_names_all_breakpoints_that_an_instruction_met() -> None:
    after = _run("nop; nop; hlt", CODE + 1, CODE, CODE + 2, CODE + 1, dr7=0x1 | 0x10 | 0x40)
    assert after.registers["rip"] == DEBUG_HANDLER and _return_address(after) == CODE + 1
    assert after.dr6 & MET == 0b1001


def test_the_instruction_after_mov_ss_has_no_breakpoint_but_the_next_one_has() -> None:
    source = "mov eax, ss; mov ss, eax; nop; nop; hlt"
    assert _run(source, CODE + 4, dr7=1).registers["rip"] == CODE + 7
    assert _return_address(_run(source, CODE + 5, dr7=1)) == CODE + 5


@pytest.mark.parametrize(("port", "length", "met"), [
    (0x80, 0, True), (0x83, 0, True), (0x84, 0, False), (0x83, 3, True), (0x7F, 0, False),
])  # fmt: skip
def test_a_breakpoint_on_ports_traps_after_the_instruction_that_reaches_one(port: int, length: int, met: bool) -> None:
    source = "out 0x80, eax; nop; hlt"
    after = _run(source, port, dr7=1 | 0x20000 | length << 18, cr4=DE)
    assert (after.registers["rip"] == DEBUG_HANDLER) == met
    if met:
        assert (_return_address(after), after.dr6 & MET) == (CODE + 2, 1)
    assert _run(source, port, dr7=1 | 0x20000 | length << 18).registers["rip"] == CODE + 4, "CR4.DE is off"
