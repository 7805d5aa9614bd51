"""Task switches by JMP, CALL, INT and IRET, to 32- and 16-bit tasks (SDM vol. 3, chapter 7)."""

from __future__ import annotations

import struct

import pytest

from .machine import (
    CODE,
    GDT,
    STACK_TASK,
    STUBS,
    TASK_TARGET,
    TSS,
    TSS2,
    TSS2_SELECTOR,
    TSS16,
    TSS16_SELECTOR,
    TSS_SELECTOR,
    State,
    assemble,
    run_hvmx,
    task32,
    world,
)  # fmt: skip

NESTED = 0x4000
JUMP = f".byte 0xea; .long 0; .word {TSS2_SELECTOR}; inc ebx; hlt"
CALL = f".byte 0x9a; .long 0; .word {TSS2_SELECTOR}; inc ebx; hlt"


def _start(source: str, **task: int) -> State:
    state = world(32, assemble(32, [source])[0])
    state.memory[TSS2] = task32(TASK_TARGET, **task)
    return state


def _word(state: State, at: int, size: int = 4) -> int:
    return int.from_bytes(state.memory[0][at : at + size], "little")


def _rights(state: State, selector: int) -> int:
    return state.memory[0][GDT + selector + 5]


@pytest.mark.parametrize(("source", "nested", "old_stays_busy"), [
    (JUMP, False, False), (CALL, True, True), ("int 42; inc ebx; hlt", True, True),
    (".byte 0xea; .long 0; .word 0xe8; hlt", False, False), (".byte 0x9a; .long 0; .word 0xe8; hlt", True, True),
], ids=["jmp", "call", "int", "jmp task gate", "call task gate"])  # fmt: skip
def test_a_switch_saves_one_task_and_loads_the_other(source: str, nested: bool, old_stays_busy: bool) -> None:
    before = _start(source)
    after = run_hvmx(before)
    assert after.registers["rip"] == TASK_TARGET + 1
    assert after.segments["tr"] == (TSS2_SELECTOR, TSS2, 0x67, 0x8B)
    assert [after.registers[name] for name in ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")] == [
        0x11, 0x22, 0x33, 0x44, STACK_TASK, 0x66, 0x77, 0x88]  # fmt: skip
    assert after.cr0 & 8, "CR0.TS"
    assert bool(after.registers["rflags"] & NESTED) == nested
    assert _word(after, TSS2, 2) == (TSS_SELECTOR if nested else 0)
    assert _rights(after, TSS2_SELECTOR) == 0x8B
    assert _rights(after, TSS_SELECTOR) == (0x8B if old_stays_busy else 0x89)
    length = 2 if source.startswith("int") else 7
    assert _word(after, TSS + 0x20) == CODE + length
    assert _word(after, TSS + 0x28) == before.registers["rax"]
    assert _word(after, TSS + 0x38) == before.registers["rsp"]
    assert _word(after, TSS + 0x4C, 2) == 8


def test_iret_with_nt_goes_back_to_the_task_that_called() -> None:
    before = _start(CALL)
    before.memory[TASK_TARGET] = assemble(32, ["iret"])[0]
    after = run_hvmx(before)
    assert after.registers["rip"] == CODE + 9
    assert after.registers["rbx"] == before.registers["rbx"] + 1
    assert after.segments["tr"][0] == TSS_SELECTOR
    assert not after.registers["rflags"] & NESTED
    assert _rights(after, TSS2_SELECTOR) == 0x89 and _rights(after, TSS_SELECTOR) == 0x8B
    assert not _word(after, TSS2 + 0x24) & NESTED


def test_a_16_bit_task() -> None:
    after = run_hvmx(_start(f".byte 0x9a; .long 0; .word {TSS16_SELECTOR}; hlt"))
    assert after.registers["rip"] == TASK_TARGET + 1
    assert after.segments["tr"] == (TSS16_SELECTOR, TSS16, 0x2B, 0x83)
    assert after.registers["rax"] & 0xFFFF == 1 and after.registers["rsp"] & 0xFFFF == STACK_TASK
    assert after.segments["fs"][3] & 0x10000 and after.segments["gs"][3] & 0x10000
    assert after.segments["cs"][0] == 0x18


def test_an_exception_through_a_task_gate_gets_its_error_code() -> None:
    before = _start("mov eax, 0x7ff8; mov ds, ax")
    idt = bytearray(before.memory[0x2000])
    idt[13 * 8 : 14 * 8] = struct.pack("<HHBBH", 0, TSS2_SELECTOR, 0, 0x85, 0)
    before.memory[0x2000] = bytes(idt)
    after = run_hvmx(before)
    assert after.registers["rip"] == TASK_TARGET + 1
    assert after.registers["rsp"] == STACK_TASK - 4
    assert _word(after, STACK_TASK - 4) == 0x7FF8


def test_a_task_in_ring_3_and_in_virtual_8086_mode() -> None:
    before = _start(JUMP, cs=0x43, data=0x4B)
    before.memory[TASK_TARGET] = assemble(32, ["mov ebx, esp; int 32"])[0]
    after = run_hvmx(before)
    assert after.registers["rip"] == STUBS + 16 * 32 + 1 and after.registers["rbx"] == STACK_TASK
    assert _word(after, after.registers["rsp"] + 4) == 0x43
    before = _start(JUMP, cs=0x800, data=0xA00, eflags=0x20002)
    before.memory[TSS2] = task32(TASK_TARGET - 0x8000, cs=0x800, data=0xA00, eflags=0x20002)
    before.memory[TASK_TARGET] = b"\x8a\x1e\x05\x00\x0f\x0b"  # mov bl, [5]; ud2
    after = run_hvmx(before)
    assert after.registers["rip"] == STUBS + 16 * 6 + 1 and after.registers["rbx"] & 0xFF == 5


@pytest.mark.parametrize(("source", "task", "vector", "error"), [
    (".byte 0xea; .long 0; .word 0x80", {}, 13, 0x80),  # busy
    (JUMP, {"cs": 0x10}, 10, 0x10), (JUMP, {"cs": 0}, 10, 0), (JUMP, {"data": 0x60}, 12, 0x60),
    (JUMP, {"data": 0}, 10, 0), (JUMP, {"ldt": 0x10}, 10, 0x10), (JUMP, {"ldt": 4}, 10, 4),
    ("pushf; or dword ptr [esp], 0x4000; popf; iret", {}, 10, 0),  # no task to go back to
], ids=str)  # fmt: skip
def test_bad_tasks_fault(source: str, task: dict[str, int], vector: int, error: int) -> None:
    # In the new task there may be no stack to push on, so the handler is a task too.
    before = _start(source, **task)
    idt = bytearray(before.memory[0x2000])
    idt[vector * 8 : vector * 8 + 8] = struct.pack("<HHBBH", 0, TSS16_SELECTOR, 0, 0x85, 0)
    before.memory[0x2000] = bytes(idt)
    after = run_hvmx(before)
    assert not after.shut_down
    assert after.segments["tr"][0] == TSS16_SELECTOR
    assert _word(after, STACK_TASK - 2, 2) == error


def test_a_switch_that_faults_before_it_happens_changes_nothing() -> None:
    before = _start(JUMP)
    gdt = bytearray(before.memory[GDT])
    gdt[TSS2_SELECTOR : TSS2_SELECTOR + 2] = struct.pack("<H", 0x66)  # a TSS one byte too short
    before.memory[GDT] = bytes(gdt)
    after = run_hvmx(before)
    assert after.registers["rip"] == STUBS + 16 * 10 + 1
    assert _word(after, after.registers["rsp"]) == TSS2_SELECTOR
    assert after.segments["tr"][0] == TSS_SELECTOR and _word(after, TSS + 0x20) == 0


def test_the_trap_bit_of_a_task_raises_debug_after_the_switch() -> None:
    before = _start(JUMP)
    tss = bytearray(before.memory[TSS2])
    tss[0x64] = 1
    before.memory[TSS2] = bytes(tss)
    after = run_hvmx(before)
    assert after.registers["rip"] == STUBS + 16 * 1 + 1
    assert after.dr6 & 0x8000
    assert _word(after, after.registers["rsp"]) == TASK_TARGET


@pytest.mark.parametrize(("source", "allowed"), [
    ("in al, 0x80", True), ("in al, 0x81", False), ("in ax, 0x80", False), ("in eax, 0x7f", False), ("in al, 0x82", True),
    ("mov dx, 0x37ff; in al, dx", False),  # beyond the map
])  # fmt: skip
def test_the_io_permission_map_decides_in_ring_3(source: str, allowed: bool) -> None:
    after = run_hvmx(world(32, assemble(32, [f"{source}; ud2"])[0], cpl=3))
    assert after.registers["rip"] == STUBS + 16 * (6 if allowed else 13) + 1


def test_iret_to_the_task_itself_goes_on_with_what_it_has_just_saved() -> None:
    """The state is saved before it is loaded (SDM vol. 3, 7.3)."""
    before = _start("inc ecx; pushf; or dword ptr [esp], 0x4000; popf; iret; inc ebx; hlt")
    before.memory[TSS] = struct.pack("<I", TSS_SELECTOR) + before.memory[TSS][4:]
    after = run_hvmx(before)
    assert not after.shut_down
    assert (after.registers["rcx"], after.registers["rbx"]) == (before.registers["rcx"] + 1, before.registers["rbx"] + 1)
    assert _rights(after, TSS_SELECTOR) == 0x89  # IRET clears the busy flag of the task that it leaves, and sets none
