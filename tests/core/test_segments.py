"""LAR, LSL, VERR, VERW, ARPL, LDS and the like, far transfers, returns to outer rings, virtual-8086 mode."""

from __future__ import annotations

import struct

import pytest

from .machine import (
    CODE,
    DATA,
    GATE_TARGET,
    GDT,
    STACK0,
    STACK1,
    STACK3,
    STUBS,
    State,
    assemble,
    descriptor,
    run_hvmx,
    world,
)  # fmt: skip

ZF = 0x40


def _run(bits: int, source: str, *, cpl: int = 0) -> State:
    return run_hvmx(world(bits, assemble(bits, [source])[0], cpl=cpl))


def _word(state: State, at: int, size: int) -> int:
    return int.from_bytes(state.memory[0][at : at + size], "little")


@pytest.mark.parametrize("selector", [0, 3, 0x10])
@pytest.mark.parametrize("far_return", [False, True], ids=["iret", "lret"])
@pytest.mark.parametrize(("name", "msr"), [("fs", 0xC0000100), ("gs", 0xC0000101)])
def test_a_return_to_an_outer_ring_takes_the_selector_and_leaves_the_base(
    name: str, msr: int, far_return: bool, selector: int
) -> None:
    leave = "push 0x53; push offset 1f; .byte 0x48, 0xcb" if far_return else "push 2; push 0x53; push offset 1f; iretq"
    after = _run(64, f"mov eax, {selector}; mov {name}, eax; mov ecx, {msr}; mov eax, {DATA}; xor edx, edx; wrmsr;"
                     f"push 0x4b; push {STACK3}; {leave}; 1: mov eax, {name}:[0x10]; mov ebx, {name}; int 33")
    assert after.segments[name][:2] == (0, DATA)
    assert after.registers["rbx"] == 0
    assert after.registers["rax"] == 0x13121110, "what ring 3 reads at the base"


def _stack(state: State, size: int, count: int) -> list[int]:
    at = state.registers["rsp"]
    return [_word(state, at + size * index, size) for index in range(count)]


# Selector: rights and limit as LAR and LSL give them in ring 0, and whether VERR and VERW say yes.
DESCRIBED: dict[int, tuple[int | None, int | None, bool, bool]] = {
    0x00: (None, None, False, False),
    0x08: (0xCF9B00, 0xFFFFFFFF, True, False),
    0x10: (0xCF9300, 0xFFFFFFFF, True, True),
    0x13: (None, None, False, False),  # RPL 3 does not see a DPL of 0
    0x18: (0x009B00, 0xFFFF, True, False),
    0x43: (0xCFFB00, 0xFFFFFFFF, True, False),
    0x4B: (0xCFF200, 0xFFFFFFFF, True, True),
    0x5B: (0xCF9E00, 0xFFFFFFFF, True, False),  # conforming: whatever the RPL
    0x68: (0xCF9000, 0xFFFFFFFF, True, False),
    0x70: (0x409600, 0xFFF, True, True),
    0x78: (0xCF9800, 0xFFFFFFFF, False, False),
    0x80: (0x008B00, 0x6FF, False, False),
    0xA0: (0x008200, 0x17, False, False),
    0xB0: (0x008C00, None, False, False),  # a call gate has rights but no limit
    0x7FF8: (None, None, False, False),
    0x0C: (0xCFF200, 0xFFFFFFFF, True, True),  # of the LDT
}


@pytest.mark.parametrize("selector", DESCRIBED, ids=hex)
def test_lar_lsl_verr_verw_say_what_a_selector_names(selector: int) -> None:
    rights, limit, readable, writable = DESCRIBED[selector]
    after = _run(32, f"mov eax, {selector}; mov ebx, -1; mov ecx, -1; lar ebx, eax; pushf; lsl ecx, eax; pushf; "
                     "verr ax; pushf; verw ax; pushf; hlt")  # fmt: skip
    write, read, has_limit, has_rights = (bool(flags & ZF) for flags in _stack(after, 4, 4))
    assert (has_rights, has_limit, read, write) == (rights is not None, limit is not None, readable, writable)
    if rights is not None:
        # Bits 16-19 are the limit's in the descriptor, and undefined in the result (SDM vol. 2, LAR).
        assert after.registers["rbx"] & 0xF0FF00 == rights & 0xF0FF00
    assert after.registers["rbx"] != 0xFFFFFFFF if rights is not None else after.registers["rbx"] == 0xFFFFFFFF
    assert after.registers["rcx"] == (limit if limit is not None else 0xFFFFFFFF)


def test_lar_in_ring_3_does_not_see_inner_descriptors() -> None:
    after = _run(32, "mov eax, 0x10; lar ebx, eax; pushf; pop edx; mov eax, 0x4b; lar ecx, eax; ud2", cpl=3)
    assert not after.registers["rdx"] & ZF
    assert after.registers["rcx"] & 0xFF00 == 0xF200


def test_arpl_raises_the_rpl_and_says_so() -> None:
    after = _run(32, "mov eax, 0x10; mov ecx, 3; arpl ax, cx; pushf; arpl cx, ax; pushf; hlt")
    second, first = _stack(after, 4, 2)
    assert after.registers["rax"] == 0x13 and first & ZF and not second & ZF


@pytest.mark.parametrize(("name", "segment"), [("lds", "ds"), ("les", "es"), ("lfs", "fs"), ("lgs", "gs")])
def test_far_pointers_load_segment_and_register(name: str, segment: str) -> None:
    after = _run(32, f"mov word ptr [esi+4], 0x4b; {name} ebx, [esi]; hlt")
    assert after.segments[segment][0] == 0x4B
    assert after.registers["rbx"] == 0x03020100


def test_loading_a_segment_marks_its_descriptor_accessed() -> None:
    before = world(32, assemble(32, ["mov eax, 0x4b; mov ds, ax; hlt"])[0])
    at = 0x1000 + 0x48 + 5
    assert before.memory[0x1000][0x4D] == 0xF2
    after = run_hvmx(before)
    assert after.memory[0][at] == 0xF3
    assert after.segments["ds"] == (0x4B, 0, 0xFFFFFFFF, 0xC0F3)


def test_null_selectors_in_64_bit_mode() -> None:
    after = _run(64, "xor eax, eax; mov ds, ax; mov ss, ax; mov rbx, [rsi]; push rbx; hlt")
    assert after.segments["ss"][0] == 0 and after.registers["rbx"] == 0x0706050403020100


def test_a_far_call_pushes_where_it_came_from_and_lret_goes_back() -> None:
    after = _run(32, f".byte 0x9a; .long 2f; .word 8; 1: hlt; 2: mov ebx, [esp]; mov ecx, [esp+4]; lret; .long {CODE}")
    assert after.registers["rip"] == CODE + 8
    assert (after.registers["rbx"], after.registers["rcx"]) == (CODE + 7, 8)


def test_a_call_gate_to_ring_0_switches_stacks_and_copies_parameters() -> None:
    after = _run(32, "push 1; push 2; push 3; .byte 0x9a; .long 0; .word 0xc3", cpl=3)
    assert after.registers["rip"] == GATE_TARGET + 1
    assert after.segments["ss"][0] == 0x10 and after.segments["cs"][0] == 8
    assert after.registers["rsp"] == STACK0 - 7 * 4
    assert _stack(after, 4, 7) == [CODE + 13, 0x43, 3, 2, 1, STACK3 - 12, 0x4B]


def test_a_call_gate_to_ring_1_uses_its_stack() -> None:
    after = _run(32, "push 1; push 2; .byte 0x9a; .long 0; .word 0xd3", cpl=3)
    # HLT at the target is not for ring 1: #GP in ring 0, with ring 1's stack on its own.
    assert after.registers["rip"] == STUBS + 16 * 13 + 1
    error, ip, cs, _, sp, ss = _stack(after, 4, 6)
    assert (error, ip, cs, sp, ss) == (0, GATE_TARGET, 0x31, STACK1 - 6 * 4, 0x39)


def test_a_16_bit_call_gate_pushes_words() -> None:
    after = _run(32, "pushw 1; pushw 2; .byte 0x9a; .long 0; .word 0xe3", cpl=3)
    assert after.registers["rsp"] == STACK0 - 6 * 2
    assert _stack(after, 2, 6) == [CODE + 13, 0x43, 2, 1, STACK3 - 4, 0x4B]


def test_a_64_bit_call_gate_pushes_quadwords() -> None:
    after = _run(64, "mov word ptr [rsi+8], 0xc3; rex.w lcall [rsi]", cpl=3)
    assert after.registers["rip"] == GATE_TARGET + 1
    assert _stack(after, 8, 4) == [CODE + 9, 0x53, STACK3, 0x4B]
    assert after.segments["ss"][0] == 0


def test_a_return_to_ring_3_drops_the_segments_of_ring_0() -> None:
    after = _run(32, "mov eax, 0x4b; mov es, ax; push 0x4b; push 0xe7f0; push 0x43; push offset 1f; lret; 1: nop; ud2")
    assert _stack(after, 4, 5)[1:] == [0x43, 0x10002, 0xE7F0, 0x4B]
    assert after.segments["ds"][3] & 0x10000 and after.segments["fs"][3] & 0x10000
    assert after.segments["es"][0] == 0x4B and not after.segments["es"][3] & 0x10000


def test_a_return_with_release_frees_both_stacks() -> None:
    after = _run(32, "push 0x4b; push 0xe7f0; push 9; push 9; push 0x43; push offset 1f; lret 8; 1: mov ebx, esp; ud2")
    assert after.registers["rbx"] == 0xE7F8


def test_iret_to_ring_3_takes_flags_but_for_vm_and_keeps_iopl_rules() -> None:
    after = _run(64, "push 0x4b; push 0xe7f0; push 0x43ed7; push 0x53; push offset 1f; iretq; 1: pushf; pop rbx; "
                     "push 0; popf; pushf; pop rcx; ud2")  # fmt: skip
    assert after.registers["rbx"] == 0x43ED7
    assert after.registers["rcx"] == 0x3002  # IF may go with IOPL 3; IOPL stays


def test_popf_in_ring_3_changes_neither_if_nor_iopl() -> None:
    after = _run(32, "push 0x3200; popf; pushf; pop ebx; ud2", cpl=3)
    assert after.registers["rbx"] == 2


V86 = ("push 0x456; push 0x123; push 0xa00; push 0x789; push 0xd00; push 0x500; push {flags}; push 0x800; "
       "push offset 1f - 0x8000; iret; .code16; 1: ")  # fmt: skip


def _v86(source: str, flags: int) -> State:
    return _run(32, V86.format(flags=flags) + source)


def test_virtual_8086_segments_are_the_selector_times_16() -> None:
    after = _v86("mov bl, [1]; mov ax, cs; int 32", 0x23002)
    assert after.registers["rbx"] & 0xFF == 1 and after.registers["rax"] & 0xFFFF == 0x800
    assert after.registers["rip"] == STUBS + 16 * 32 + 1
    _, cs, flags, sp, ss, es, ds, fs, gs = _stack(after, 4, 9)
    assert (cs, sp, ss, es, ds, fs, gs) == (0x800, 0x500, 0xD00, 0x789, 0xA00, 0x123, 0x456)
    assert flags & 0x20000 and after.registers["rsp"] == STACK0 - 36
    assert all(after.segments[name][3] & 0x10000 for name in ("ds", "es", "fs", "gs"))


@pytest.mark.parametrize("source", ["cli", "sti", "pushf", "popf", "iret", "int 32", "hlt", "mov eax, cr0", "in al, 0x81"])
def test_virtual_8086_mode_without_iopl_faults(source: str) -> None:
    after = _v86(f"mov ax, 7; {source}; hlt", 0x20002)
    assert after.registers["rip"] == STUBS + 16 * 13 + 1
    assert _stack(after, 4, 1) == [0]


def test_virtual_8086_int3_needs_no_iopl_and_a_gate_of_dpl_3() -> None:
    after = _v86("int3", 0x20002)
    assert after.registers["rip"] == STUBS + 16 * 13 + 1
    assert _stack(after, 4, 1) == [3 * 8 + 2]


@pytest.mark.parametrize("source", ["lar ax, bx", "sldt ax", "str ax", "verr ax", "arpl ax, bx", "lldt ax"])
def test_protected_mode_only_instructions_are_undefined_in_virtual_8086_mode(source: str) -> None:
    assert _v86(f"{source}; hlt", 0x23002).registers["rip"] == STUBS + 16 * 6 + 1


def test_real_mode_far_transfers() -> None:
    after = _run(16, "push 0x7ff; push offset 1f - 0x7ff0; retf 4; hlt; 1: .byte 0x9a; .word 2f - 0x7fe0; .word 0x7fe; "
                     "2: pop ax; pop bx; hlt")  # fmt: skip
    assert after.segments["cs"][:2] == (0x7FE, 0x7FE0)
    assert after.registers["rbx"] & 0xFFFF == 0x7FF
    assert after.registers["rsp"] == STACK0 - 0x100 + 4


def test_unreal_mode_keeps_the_limit_of_protected_mode() -> None:
    setup = struct.pack("<HI", 0x11F, 0x1000)
    source = ("lgdt [0xa400]; mov eax, 0x11; mov cr0, eax; mov bx, 0x10; mov fs, bx; mov al, 0x10; mov cr0, eax; "
              "mov bx, 0x100; mov fs, bx; mov ebx, 0x20000; mov fs:[ebx], eax; hlt")  # fmt: skip
    before = world(16, assemble(16, [source])[0])
    before.memory[DATA + 0x400] = setup
    after = run_hvmx(before)
    assert after.segments["fs"][:3] == (0x100, 0x1000, 0xFFFFFFFF)
    assert _word(after, 0x21000, 1) == 0x10


def test_protected_mode_is_entered_and_left() -> None:
    source = ("lgdt [0xa400]; mov eax, 0x11; mov cr0, eax; .byte 0xea; .word 1f; .word 0x18; 1: mov ax, 0x20; mov ds, ax; "
              "mov eax, 0x10; mov cr0, eax; .byte 0xea; .word 2f; .word 0; 2: mov bx, cs; mov ax, 0xa00; mov ds, ax; "
              "mov cl, [1]; hlt")  # fmt: skip
    before = world(16, assemble(16, [source])[0])
    before.memory[DATA + 0x400] = struct.pack("<HI", 0x11F, 0x1000)
    after = run_hvmx(before)
    assert after.registers["rbx"] & 0xFFFF == 0 and after.registers["rcx"] & 0xFF == 1
    assert after.cr0 & 1 == 0


def test_a_small_segment_limits_what_is_reached_through_it() -> None:
    before = world(32, assemble(32, ["mov eax, 0x100; mov fs, ax; mov bl, fs:[0x1f]; mov cl, fs:[0x20]"])[0])
    gdt = bytearray(before.memory[0x1000])
    gdt[0x100:0x108] = descriptor(DATA, 0x1F, 0x4092)
    before.memory[0x1000] = bytes(gdt)
    after = run_hvmx(before)
    assert after.registers["rbx"] & 0xFF == 0x1F
    assert after.registers["rip"] == STUBS + 16 * 13 + 1


@pytest.mark.parametrize(("stack", "loaded"), [(0, False), (0x4B, True)])
def test_a_code_segment_is_marked_accessed_only_when_it_is_loaded(stack: int, loaded: bool) -> None:
    """Not by a return that fails over its stack (SDM vol. 3, 3.4.5.1)."""
    after = _run(32, f"push {stack}; push 0xe7f0; push 0x5b; push offset 1f; lret; 1: hlt")
    assert [_word(after, GDT + selector + 5, 1) & 1 for selector in (0x58, 0x48)] == [loaded, loaded]
