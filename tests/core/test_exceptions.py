"""Which exception an instruction raises, with which error code and return address, in every mode and ring.

Expected from the SDM: volume 2 for each instruction, volume 3, chapters 5 and 6 for the checks and the frames.
"""

from __future__ import annotations

import struct
from functools import cache

import pytest

from .machine import CODE, STACK0, STACK_IST, STUBS, State, assemble, run_hvmx, world

DE, DB, BP, OF, BR, UD, NM, DF, TS, NP, SS, GP, PF, XM = 0, 1, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 19

# Width, ring, source, vector, error code (None where the vector has none). The faulting instruction starts at label 9.
RAISES: list[tuple[int, int, str, int, int | None]] = [
    *((bits, cpl, source, vector, error) for bits, cpl in ((32, 0), (32, 3), (64, 0), (64, 3))
      for source, vector, error in [
          ("xor ecx, ecx; 9: div ecx", DE, None), ("9: ud2", UD, None), ("9: rsm", UD, None),
          ("xor ecx, ecx; 9: xgetbv", UD, None), ("mov eax, 0x7ff8; 9: mov ds, ax", GP, 0x7FF8),
          ("mov eax, 0x60; 9: mov fs, ax", NP if cpl == 0 else GP, 0x60),
          ("mov eax, 0x80; 9: mov gs, ax", GP, 0x80), ("mov eax, 0x78; 9: mov es, ax", GP, 0x78),
          ("mov eax, 0x24; 9: mov es, ax", GP, 0x24), ("mov eax, 0x68; 9: mov ss, ax", GP, 0x68),
          ("mov eax, 0x08; 9: mov ss, ax", GP, 0x08),
      ]),
    *((bits, 3, f"9: {source}", GP, 0) for bits in (32, 64) for source in (
        "hlt", "cli", "sti", "lgdt [esi]", "lidt [esi]", "lldt ax", "ltr ax", "clts", "invd", "wbinvd", "rdmsr", "wrmsr",
        "lmsw ax", "invlpg [esi]", "rdpmc", "mov dr7, " + ("rax" if bits == 64 else "eax"), "in al, 0x81",
        "mov cr3, " + ("rax" if bits == 64 else "eax"), ".byte 0x0f, 0x35", "out 0x80, eax")),
    *((64, 3, f"9: {source}", GP, 0) for source in ("swapgs", "sysretq")),
    *((bits, cpl, f"9: int {vector}", GP, vector * 8 + 2) for bits, cpl in ((32, 3), (64, 3)) for vector in (0, 3, 13, 31)),
    *((bits, cpl, f"9: int {vector}", GP, vector * 8 + 2) for bits, cpl in ((32, 0), (32, 3), (64, 0), (64, 3))
      for vector in (64, 255)),
    (32, 3, "9: int 46", NP, 46 * 8 + 2), (32, 0, "9: int 48", GP, 0x10), (32, 3, "9: int 48", GP, 0x10),
    (32, 0, "9: int 41", GP, 0x30),
    # far transfers
    *((32, 0, f"9: .byte {opcode:#x}; .long 0; .word {selector}", vector, error) for opcode in (0x9A, 0xEA)
      for selector, vector, error in [
          (0, GP, 0), (3, GP, 0), (0x10, GP, 0x10), (0x33, GP, 0x30), (0x0B, GP, 8), (0x7FF8, GP, 0x7FF8), (0x80, GP, 0x80),
          (0xA0, GP, 0xA0), (0xF0, NP, 0xF0), (0x24, GP, 0x24)]),
    *((32, 3, f"9: .byte {opcode:#x}; .long 0; .word {selector}", GP, selector & ~3) for opcode in (0x9A, 0xEA)
      for selector in (0x08, 0x4B, 0xB3, 0x80, 0x34)),
    (32, 3, "9: .byte 0xea; .long 0; .word 0xc3", GP, 0x08),  # JMP through a gate cannot change the ring
    (32, 3, "9: .byte 0x9a; .long 0; .word 0xf3", NP, 0xF0),
    (32, 0, "push 0; push 0; 9: lret", GP, 0), (32, 0, "push 0x10; push 0; 9: lret", GP, 0x10),
    (32, 3, "push 8; push 0; 9: lret", GP, 8), (32, 0, "push 2; push 0x33; push 0; 9: iret", GP, 0x30),
    (32, 0, "push 0; push 0; push 0x43; push 0; 9: lret", GP, 0),
    (32, 0, "push 0x10; push 0; push 0x43; push 0; 9: lret", GP, 0x10),
    (32, 0, "push 0; push 0; push 2; push 0x43; push 0; 9: iret", GP, 0),
    (64, 0, "push 0x4b; push 0; push 2; push 0x10; push 0; 9: iretq", GP, 0x10),
    (64, 0, "push 0; push 0; push 2; push 0x53; push 0; 9: iretq", GP, 0),
    (64, 0, "push 3; push 0; push 2; push 0x28; push 0; 9: iretq", GP, 0),
    (64, 0, "pushf; or dword ptr [rsp], 0x4000; popf; 9: iretq", GP, 0),  # nested task: no task switches in long mode
    # limits and canonical addresses
    (32, 0, "mov eax, 0x100; mov fs, ax; 9: mov ebx, fs:[0xfd]", GP, 0),
    (32, 0, "mov eax, 0x70; mov fs, ax; 9: mov bl, fs:[0xfff]", GP, 0),
    (32, 0, "mov eax, 0x68; mov fs, ax; 9: mov fs:[0], al", GP, 0), (32, 0, "9: mov cs:[0xa000], al", GP, 0),
    (32, 0, "xor eax, eax; mov fs, ax; 9: mov al, fs:[0]", GP, 0),
    (64, 0, "mov rax, 0x800000000000; 9: mov rbx, [rax]", GP, 0),
    (64, 0, "mov rbp, 0x800000000000; 9: mov rbx, [rbp]", SS, 0),
    (64, 3, "mov rsp, 0x800000000010; 9: push rax", SS, 0), (64, 0, "mov rax, 0x800000000000; 9: jmp rax", GP, 0),
    # pages
    (64, 0, "mov rax, 0x200000; 9: mov rbx, [rax]", PF, 0), (64, 3, "mov rax, 0x200000; 9: mov rbx, [rax]", PF, 4),
    (64, 0, "mov rax, 0x200000; 9: mov [rax], rbx", PF, 2), (64, 3, "mov rax, 0x200000; 9: mov [rax], rbx", PF, 6),
    # control registers and MSRs
    (32, 0, "mov eax, 0x80000010; 9: mov cr0, eax", GP, 0), (32, 0, "mov eax, 0x20000011; 9: mov cr0, eax", GP, 0),
    (32, 0, "mov eax, 0x2000000; 9: mov cr4, eax", GP, 0), (64, 0, "mov rax, cr4; and al, 0xdf; 9: mov cr4, rax", GP, 0),
    (64, 0, "mov rax, cr0; btr rax, 31; 9: mov cr0, rax", GP, 0), (64, 0, "mov rax, cr0; bts rax, 40; 9: mov cr0, rax", GP, 0),
    (64, 0, "bts rax, 50; 9: mov cr3, rax", GP, 0), (64, 0, "mov eax, 16; 9: mov cr8, rax", GP, 0),
    (64, 0, "mov ecx, 0xc0000100; xor eax, eax; mov edx, 0x8000; 9: wrmsr", GP, 0),
    (64, 0, "mov ecx, 0xc0000080; mov eax, 2; xor edx, edx; 9: wrmsr", GP, 0),
    (64, 0, "mov ecx, 0xc0000080; mov eax, 1; xor edx, edx; 9: wrmsr", GP, 0),  # LME while paging
    (64, 0, "mov ecx, 0x277; mov eax, 2; xor edx, edx; 9: wrmsr", GP, 0),
    (32, 0, "mov ecx, 0x12345; 9: rdmsr", GP, 0), (32, 0, "mov ecx, 0x12345; 9: wrmsr", GP, 0),
    (32, 0, "mov ecx, 0x17; rdmsr; 9: wrmsr", GP, 0),  # IA32_PLATFORM_ID is for reading
    (64, 0, "mov word ptr [rsi+8], 0x8000; 9: lgdt [rsi]", GP, 0),
    (32, 0, "mov ecx, 0x174; xor eax, eax; xor edx, edx; wrmsr; 9: sysenter", GP, 0),
    (64, 0, "mov ecx, 0xc0000080; rdmsr; and al, 0xfe; wrmsr; 9: syscall", UD, None),
    *((bits, cpl, f"9: {prefix}{name}", UD, None) for bits in (32, 64) for name in ("stac", "clac")
      for cpl, prefix in ((3, ""), (0, ".byte 0xf0; "), (0, ".byte 0x66; "))),
    (32, 0, "mov eax, 8; mov cr4, eax; 9: mov ebx, dr4", UD, None),
    (32, 0, "mov eax, 0x80; 9: ltr ax", GP, 0x80), (32, 0, "mov eax, 0x10; 9: lldt ax", GP, 0x10),
    (32, 0, "xor eax, eax; 9: ltr ax", GP, 0),
    # floating point that is switched off
    (32, 0, "mov eax, 0x15; mov cr0, eax; 9: fninit", NM, None), (32, 0, "mov eax, 0x19; mov cr0, eax; 9: fnstsw ax", NM, None),
    (32, 0, "mov eax, 0x1b; mov cr0, eax; 9: fwait", NM, None), (32, 0, "9: ldmxcsr [esi]", UD, None),
    (32, 0, "mov eax, 0x19; mov cr0, eax; 9: fxsave [esi]", NM, None), (32, 0, "9: fxsave [esi+4]", GP, 0),
    (64, 0, "mov dword ptr [rsi], -1; 9: ldmxcsr [rsi]", GP, 0),
    # an SSE exception that is not masked: zero is divided by zero
    *((bits, cpl, f"{osxmmexcpt}mov dword ptr [esi], 0x1f00; ldmxcsr [esi]; xorps xmm0, xmm0; 9: divps xmm0, xmm0", vector, None)
      for bits, cpl, osxmmexcpt, vector in (
          (64, 0, "", UD), (64, 3, "", UD), (64, 0, "mov rax, cr4; or eax, 0x400; mov cr4, rax; ", XM),
          (32, 0, "mov eax, 0x200; mov cr4, eax; ", UD), (32, 0, "mov eax, 0x600; mov cr4, eax; ", XM))),
    # extended states
    *((bits, cpl, f"9: {source}", UD, None) for bits in (32, 64) for cpl in (0, 3)
      for source in ("xsetbv", "xsave [esi]", "xsaveopt [esi]", "xrstor [esi]")),
    *((bits, 0, f"mov {a}, cr4; or eax, 0x40000; mov cr4, {a}; xor edx, edx; mov eax, 1; {source}", vector, error)
      for bits, a in ((32, "eax"), (64, "rax")) for source, vector, error in [
          ("mov ecx, 1; 9: xgetbv", GP, 0), ("9: xsave [esi+16]", GP, 0), ("9: xrstor [esi+32]", GP, 0),
          (f"mov {a}, cr0; or al, 8; mov cr0, {a}; 9: xsave [esi]", NM, None),
          (f"mov {a}, cr0; or al, 8; mov cr0, {a}; 9: xrstor [esi+1]", NM, None),
          ("mov dword ptr [esi+512], 2; 9: xrstor [esi]", GP, 0),  # a component that XCR0 has not enabled
          ("mov dword ptr [esi+524], 0x80000000; 9: xrstor [esi]", GP, 0),  # the compacted format
          ("mov dword ptr [esi+532], 1; 9: xrstor [esi]", GP, 0)]),
    # others
    (32, 0, "mov ebx, 5; mov dword ptr [esi], 6; mov dword ptr [esi+4], 9; 9: bound ebx, [esi]", BR, None),
    (32, 0, "mov bx, 10; mov dword ptr [esi], 0x90006; 9: bound bx, [esi]", BR, None),
    (32, 0, "mov eax, 0x2000; mov dr7, eax; 9: mov ebx, dr6", DB, None),
]  # fmt: skip


@cache
def _codes(bits: int) -> dict[str, tuple[bytes, int]]:
    """For each source its bytes, and where the instruction at label 9 starts."""
    sources = sorted({row[2] for row in RAISES if row[0] == bits})
    marked = assemble(bits, [f"jmp 8f; .long 9f; 8: {source}" for source in sources])
    return {source: (code, struct.unpack_from("<I", code, 2)[0]) for source, code in zip(sources, marked)}


def _word(state: State, at: int, size: int) -> int:
    return int.from_bytes(state.memory[0][at : at + size], "little")


def _reached(state: State) -> int:
    """The vector whose handler the guest halted in."""
    vector, offset = divmod(state.registers["rip"] - 1 - STUBS, 16)
    assert offset == 0 and 0 <= vector < 64, f"halted at {state.registers['rip']:#x}, not in a handler"
    return vector


@pytest.mark.parametrize("row", RAISES, ids=lambda row: f"{row[0]}-ring{row[1]}: {row[2]}")
def test_raises(row: tuple[int, int, str, int, int | None]) -> None:
    bits, cpl, source, vector, error = row
    code, fault_at = _codes(bits)[source]
    before = world(bits, code, cpl=cpl)
    after = run_hvmx(before)
    assert not after.shut_down, "the guest shut down"
    size = bits // 8
    stack = after.registers["rsp"]
    assert _reached(after) == vector
    if error is not None:
        assert _word(after, stack, size) == error
        stack += size
    assert _word(after, stack, size) == fault_at, "return address"
    assert _word(after, stack + size, size) == before.segments["cs"][0]
    flags = _word(after, stack + 2 * size, size)
    assert bool(flags & 0x10000) == (vector != DB), "RF in the pushed flags"
    if cpl == 3 or bits == 64:
        assert _word(after, stack + 4 * size, size) == before.segments["ss"][0]
    if cpl == 3:
        assert after.segments["ss"][0] == (0x10 if bits == 32 else 0)
        assert stack + 5 * size == STACK0
    assert after.segments["cs"][3] >> 5 & 3 == 0


def _run(bits: int, source: str, *, cpl: int = 0) -> State:
    return run_hvmx(world(bits, assemble(bits, [source])[0], cpl=cpl))


@pytest.mark.parametrize("smap", [False, True])
@pytest.mark.parametrize(("bits", "register"), [(32, "eax"), (64, "rax")])
def test_stac_and_clac_execute_in_ring_0_whatever_cr4_smap_says(bits: int, register: str, smap: bool) -> None:
    enable = f"mov {register}, cr4; or {register}, 0x200000; mov cr4, {register}; " if smap else ""
    after = _run(bits, f"{enable} .byte 0x0f, 0x01, 0xcb; pushf; pop {register}; .byte 0x0f, 0x01, 0xca; hlt")
    assert after.registers["rax"] & 0x40000, "STAC"
    assert not after.registers["rflags"] & 0x40000, "CLAC"


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize(("vector", "interrupts"), [(32, False), (33, True)])
def test_interrupt_gates_clear_if_and_trap_gates_keep_it(bits: int, vector: int, interrupts: bool) -> None:
    after = _run(bits, f"sti; nop; int {vector}")
    assert _reached(after) == vector
    assert bool(after.registers["rflags"] & 0x200) == interrupts


def test_an_interrupt_stack_is_used_from_the_same_ring_and_aligned() -> None:
    after = _run(64, "mov rsp, 0xef05; int 40")
    assert after.registers["rsp"] == STACK_IST - 40
    assert _word(after, STACK_IST - 16, 8) == 0xEF05


def test_long_mode_aligns_the_frame_to_16_bytes() -> None:
    after = _run(64, "mov rsp, 0xef05; int 32")
    assert after.registers["rsp"] == 0xEF00 - 40


def test_a_16_bit_gate_pushes_words() -> None:
    after = _run(32, "int 44")
    assert _reached(after) == 44
    assert after.registers["rsp"] == STACK0 - 0x100 - 6
    assert _word(after, after.registers["rsp"], 2) == CODE + 2


def test_int3_and_into_return_after_themselves() -> None:
    after = _run(32, "int3")
    assert _reached(after) == BP and _word(after, after.registers["rsp"], 4) == CODE + 1
    after = _run(32, "mov al, 0x7f; inc al; into")
    assert _reached(after) == OF and _word(after, after.registers["rsp"], 4) == CODE + 5


def test_a_fault_while_a_fault_is_delivered_is_a_double_fault() -> None:
    after = _run(32, "mov dword ptr [0x2068], 0; mov dword ptr [0x206c], 0; mov eax, 0x7ff8; mov ds, ax")
    assert _reached(after) == DF
    assert _word(after, after.registers["rsp"], 4) == 0


def test_a_benign_exception_whose_delivery_faults_is_that_fault() -> None:
    after = _run(32, "mov dword ptr [0x2030], 0; mov dword ptr [0x2034], 0; ud2")
    assert _reached(after) == GP
    assert _word(after, after.registers["rsp"], 4) == UD * 8 + 2 + 1


def test_a_fault_while_a_double_fault_is_delivered_shuts_down() -> None:
    assert _run(32, "xor eax, eax; push eax; push eax; lidt [esp]; ud2").shut_down


def test_a_real_mode_push_at_sp_1_shuts_down() -> None:
    # The stack fault cannot be pushed, nor the double fault that this makes (SDM vol. 2, PUSH).
    assert _run(16, "mov sp, 1; push ax").shut_down


def test_real_mode_interrupts_go_through_the_vector_table_and_back() -> None:
    after = _run(16, "mov word ptr ds:[0x80], offset 1f; sti; int 32; hlt; 1: pushf; pop bx; iret")
    assert after.registers["rip"] == CODE + 10
    assert after.registers["rsp"] == STACK0 - 0x100
    assert not after.registers["rbx"] & 0x200 and after.registers["rflags"] & 0x200


# --- single steps and breakpoints (SDM vol. 3, chapter 17) ----------------------------------------------------------------------
STEP = "pushf; or dword ptr [esp], 0x100; popf; "


@pytest.mark.parametrize(("source", "stops_at", "dr6"), [
    (STEP + "nop; 1: nop", "1b", 0x4000),
    (STEP + "mov eax, ss; 1: nop", "1b", 0x4000),
    ("mov eax, offset 1f; mov dr0, eax; mov eax, 1; mov dr7, eax; nop; 1: nop; hlt", "1b", 1),
    ("mov eax, 0xa010; mov dr1, eax; mov eax, 0xd00004; mov dr7, eax; nop; mov [0xa012], eax; 1: hlt", "1b", 2),
    ("mov eax, 0xa010; mov dr1, eax; mov eax, 0xf00004; mov dr7, eax; nop; mov ebx, [0xa012]; 1: hlt", "1b", 2),
])  # fmt: skip
def test_debug_traps_say_where_and_why(source: str, stops_at: str, dr6: int) -> None:
    code = assemble(32, [f"{source}; hlt; .long {stops_at}"])[0]
    after = run_hvmx(world(32, code))
    assert _reached(after) == DB
    assert _word(after, after.registers["rsp"], 4) == struct.unpack("<I", code[-4:])[0]
    assert after.dr6 & 0xE00F == dr6
    assert not after.registers["rflags"] & 0x100


def test_the_instruction_after_mov_ss_is_stepped_with_it() -> None:
    after = _run(32, "mov eax, ss; " + STEP + "mov ss, eax; inc ebx; inc ebx; hlt")
    assert _reached(after) == DB
    assert after.registers["rbx"] == 0x4040404 + 1


def test_a_software_interrupt_is_not_followed_by_a_single_step_trap() -> None:
    after = _run(32, STEP + "int 32")
    assert _reached(after) == 32
    assert after.dr6 & 0x4000 == 0
    assert _word(after, after.registers["rsp"] + 8, 4) & 0x100


def test_watching_does_not_stop_other_accesses() -> None:
    after = _run(32, "mov eax, 0xa010; mov dr1, eax; mov eax, 0xd00004; mov dr7, eax; mov [0xa014], eax; mov ebx, [0xa010]; hlt")
    assert after.registers["rip"] < STUBS or after.registers["rip"] >= CODE
    assert after.dr6 & 0xF == 0
