"""Breakpoints on instructions and ports (SDM vol. 3, 17.2 and 17.3); on data and by single steps: snippets/debug.py."""

from __future__ import annotations

import pytest

from hvmx.core.vcpu import Vcpu

from . import machine
from .machine import CODE, DATA, STUBS, State, assemble, run_hvmx, world

DEBUG_HANDLER = STUBS + 16 + 1  # has halted
DE = 8
MET = 0xF  # B0 to B3 of DR6


def _run(source: str, *addresses: int, dr7: int, cr4: int = 0) -> State:
    state = world(32, assemble(32, [source])[0])
    state.dr = tuple([*addresses, 0, 0, 0, 0][:4])
    state.dr7, state.cr4 = dr7 | 0x400, cr4
    return run_hvmx(state)


class Stepped(Vcpu):
    """Runs by single steps."""

    def run(self, cycles: int | None = None) -> int:
        while not self.halted:
            self.step()
        return machine.STOP_HALTED


def _return_address(state: State) -> int:
    return int.from_bytes(state.memory[0][state.registers["rsp"] :][:4], "little")


def test_dr6_names_all_breakpoints_that_an_instruction_met() -> None:
    after = _run("nop; nop; hlt", CODE + 1, CODE, CODE + 2, CODE + 1, dr7=0x1 | 0x10 | 0x40)
    assert after.registers["rip"] == DEBUG_HANDLER and _return_address(after) == CODE + 1
    assert after.dr6 & MET == 0b1001


@pytest.mark.parametrize(("source", "dr7", "dr6"), [
    ("nop; nop; hlt", 1, 0xFFFF4FF1),  # a breakpoint on the second instruction
    ("nop; mov eax, dr6; hlt", 0x2000, 0xFFFF6FF0),  # general detect
    ("pushf; or dword ptr [esp], 0x100; popf; nop; hlt", 0, 0xFFFF4FF0),  # a single step
    (".byte 0xf1; hlt", 0, 0xFFFF4FFA),  # INT1 says nothing of breakpoints
])  # fmt: skip
def test_a_debug_exception_names_none_of_the_breakpoints_of_before(source: str, dr7: int, dr6: int) -> None:
    state = world(32, assemble(32, [source])[0])
    state.dr, state.dr7, state.dr6 = (CODE + 1, 0, 0, 0), dr7 | 0x400, 0xFFFF4FFA
    after = run_hvmx(state)
    assert (after.registers["rip"], after.dr6) == (DEBUG_HANDLER, dr6)


@pytest.mark.parametrize(("code", "vector", "dr6"), [
    ("cd20", 0x20, 0xFFFF0FF0), ("cc", 3, 0xFFFF0FF0), ("f1", 1, 0xFFFF0FF0), ("0f0b", 6, 0xFFFF0FF0),
    ("9090", 1, 0xFFFF4FF0),  # the trap of the NOP
])  # fmt: skip
@pytest.mark.parametrize(("bits", "start"), [
    (16, "8cd1 9c 58 0d0001 50 9d"), (32, "8cd1 9c 810c2400010000 9d"), (64, "8cd1 9c 810c2400010000 9d"),
])  # fmt: skip
@pytest.mark.parametrize("processor", [Vcpu, Stepped])
def test_mov_ss_has_no_single_step_trap_and_puts_none_off(
    monkeypatch: pytest.MonkeyPatch, processor: type[Vcpu], bits: int, start: str, code: str, vector: int, dr6: int
) -> None:
    monkeypatch.setattr(machine, "Vcpu", processor)
    # mov ecx, ss; pushf; or [esp], 0x100; popf; mov ss, ecx
    state = world(bits, bytes.fromhex(start + "8ed1" + code) + b"\xf4")
    after = run_hvmx(state)
    assert (after.registers["rip"], after.dr6) == (STUBS + 16 * vector + 1, dr6)


@pytest.mark.parametrize(("code", "returns_to", "dr6"), [
    ("f1", CODE + 9, 0xFFFF4FF1),  # INT1
    ("0f21f0", CODE + 8, 0xFFFF6FF1),  # mov eax, dr6, with general detect
    ("cd01", STUBS + 16, 0xFFFF4FF1),  # INT n is no debug exception: the breakpoint's comes when its handler begins
    ("cd20", STUBS + 16 * 0x20, 0xFFFF4FF1),
])  # fmt: skip
def test_a_breakpoint_of_mov_ss_goes_with_the_next_debug_exception_or_comes_after_the_next_instruction(
    code: str, returns_to: int, dr6: int
) -> None:
    state = world(32, bytes.fromhex("bd00a00000 8e5500" + code) + b"\xf4")  # mov ebp, DATA; mov ss, [ebp]
    state.memory[DATA] = b"\x10\0\0\0"
    state.dr, state.dr6 = (DATA, 0, 0, 0), 0xFFFF4FF8
    state.dr7 = 0x400 | 1 | 0xF0000 | (0x2000 if code == "0f21f0" else 0)
    after = run_hvmx(state)
    assert (after.registers["rip"], _return_address(after), after.dr6) == (DEBUG_HANDLER, returns_to, dr6)
    frames = 2 if code.startswith("cd") else 1
    assert after.registers["rsp"] == state.registers["rsp"] - 12 * frames, "one frame for one exception"


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
