"""Code that changes, and translations that change: what is run is what the processor would fetch."""

from __future__ import annotations

import struct

import pytest

from hvmx.core.vcpu import Vcpu
from hvmx.vocabulary import ExitReason

from .machine import CODE, MEMORY, STUBS, assemble, world

PAGE = 0x1000
DIRECTORY, TABLE = 0x20000, 0x21000
ALIAS = 0x30000  # linear, of the frame of CODE, under paging
FAR = 0x400000  # a linear address of the second page table entry's 4 MiB
PRESENT, WRITABLE, USER, LARGE, GLOBAL = 1, 2, 4, 0x80, 0x100
CR0_PG, CR4_PSE, CR4_PGE = 1 << 31, 0x10, 0x80
PAGE_FAULT_STUB = STUBS + 16 * 14


def _guest(source: str, *, paging: bool = False, end: str = "hlt") -> Vcpu:
    """A 32-bit guest before `source` and then `end`; with paging, one to one but for ALIAS."""
    state = world(32, b"")
    cpu = Vcpu(MEMORY)
    for where, data in state.memory.items():
        if data:
            cpu.write(where, data)
    cpu.cr0 = state.cr0
    if paging:
        entries = [page * PAGE | PRESENT | WRITABLE | USER for page in range(MEMORY // PAGE)]
        entries[ALIAS // PAGE] = CODE | PRESENT | WRITABLE | USER
        cpu.write(TABLE, struct.pack(f"<{len(entries)}I", *entries))
        cpu.write(DIRECTORY, struct.pack("<I", TABLE | PRESENT | WRITABLE | USER))
        cpu.cr3, cpu.cr4, cpu.cr0 = DIRECTORY, CR4_PSE | CR4_PGE, state.cr0 | CR0_PG
    cpu.gdtr, cpu.idtr = state.gdtr, state.idtr
    for name, segment in state.segments.items():
        cpu.set_segment(name, *segment)
    for name, value in state.registers.items():
        setattr(cpu, name, value)
    cpu.write(CODE, assemble(32, [f"{source}; {end}"])[0])
    return cpu


def _run(cpu: Vcpu) -> Vcpu:
    cpu.run(cycles=1_000_000)
    assert cpu.halted, f"the guest is still at {cpu.rip:#x}"
    return cpu


def _entry(linear: int) -> str:
    return f"dword ptr [{TABLE + linear // PAGE * 4:#x}]"


@pytest.mark.parametrize("source", [
    # The immediate of the instruction that follows at once.
    "mov byte ptr [1f + 1], 7; 1: mov al, 1",
    # Later in the same block, by every kind of store.
    "lea edi, [1f + 1]; mov eax, 7; stosb; nop; nop; 1: mov al, 1",
    "lea edi, [1f + 1]; lea esi, [2f]; mov ecx, 1; rep movsb; 1: mov al, 1; jmp 3f; 2: .byte 7; 3: nop",
    "xor eax, eax; add byte ptr [1f + 1], 6; 1: mov al, 1",
    "mov ecx, 7; xchg byte ptr [1f + 1], cl; 1: mov al, 1",
    "lea esp, [1f + 5]; push 7; 1: mov eax, 1",
    # A loop whose second round is another.
    "mov ecx, 2; 1: mov al, 1; mov byte ptr [1b + 1], 7; dec ecx; jnz 1b",
    # A store that reaches into the next instruction with its last byte only.
    "mov dword ptr [1f - 2], 0x07b09090; nop; nop; 1: mov al, 1",
])  # fmt: skip
def test_code_that_writes_its_own_block_runs_as_written(source: str) -> None:
    # The assembler places sources at CODE: absolute labels are right.
    cpu = _run(_guest(source))
    assert cpu.rax & 0xFF == 7, f"al is {cpu.rax & 0xFF:#x}: the old code was run"


def test_code_behind_a_jump_that_ends_in_the_next_page_is_watched() -> None:
    cpu = _guest(f"mov ebx, 2; 1: call {CODE + 0xFFD:#x}; mov byte ptr [{CODE + 0x83F:#x}], 7; dec ebx; jnz 1b")
    cpu.write(CODE + 0x83E, bytes.fromhex("b001c3"))  # mov al, 1; ret
    cpu.write(CODE + 0xFFD, b"\xe9" + struct.pack("<i", 0x83E - 0x1002))  # jmp to it
    assert _run(cpu).rax & 0xFF == 7, "the second call ran the old code"


@pytest.mark.parametrize(
    "store", ["mov byte ptr [{at}], 7", "lea edi, [{at}]; mov al, 7; mov ecx, 1; rep stosb"]
)
def test_code_written_through_another_linear_address_is_new(store: str) -> None:
    target = f"({ALIAS:#x} + 1f - {CODE:#x} + 1)"
    cpu = _run(
        _guest(f"call 1f; {store.format(at=target)}; call 1f; jmp 2f; 1: mov bl, 1; ret; 2: nop", paging=True)
    )
    assert cpu.rbx & 0xFF == 7


def test_code_written_by_a_handler_and_by_the_host_is_new() -> None:
    cpu = _guest("1: mov bl, 1; in al, 0x60; dec ecx; jnz 1b", end="jmp .")
    cpu.io_bitmap[:] = 0xFF
    cpu.rcx = 2
    cpu.set_handler(ExitReason.IO_INSTRUCTION, lambda vcpu, exit: vcpu.write(CODE + 1, b"\x07"))
    cpu.run(cycles=10_000)
    assert cpu.rbx & 0xFF == 7, "what the handler wrote was not run"
    cpu.set_handler(ExitReason.IO_INSTRUCTION, lambda vcpu, exit: None)
    cpu.memory[CODE + 1] = 9
    cpu.rip, cpu.rcx = CODE, 1
    cpu.run(cycles=10_000)
    assert cpu.rbx & 0xFF == 9, "what was written through the view of memory was not run"


def test_code_in_a_page_table_changes_with_the_accessed_bit() -> None:
    """The processor's own writes to page tables are writes to code, too."""
    entry = TABLE + (ALIAS // PAGE + 1) * 4
    # At the entry: its low byte is an instruction's immediate, which gets the A bit (0x20) when ALIAS + PAGE is read.
    cpu = _guest(
        f"call {entry - 1:#x}; mov ecx, ebx; mov edx, [{ALIAS + PAGE:#x}]; call {entry - 1:#x}", paging=True
    )
    cpu.write(
        entry - 1, b"\xb3" + struct.pack("<I", 0x00C3_9000 | PRESENT | WRITABLE | USER)
    )  # mov bl, 7; nop; ret
    cpu.set_handler(ExitReason.EPT_MISCONFIG, lambda vcpu, exit: None)  # there is no memory where ALIAS + PAGE leads
    _run(cpu)
    assert (cpu.rcx & 0xFF, cpu.rbx & 0xFF) == (7, 0x27)


def test_code_that_ends_with_its_page_goes_on_in_the_next_linear_page_not_in_the_next_frame() -> None:
    cpu = _guest("", paging=True)
    next_page = CODE // PAGE + 1
    cpu.write(CODE + PAGE - 2, assemble(32, ["inc ecx; inc edx"])[0])
    cpu.write(CODE + PAGE, assemble(32, ["inc ebx; hlt"])[0])
    cpu.write(MEMORY - PAGE, assemble(32, ["inc esi; hlt"])[0])
    cpu.write(TABLE + 4 * next_page, struct.pack("<I", MEMORY - PAGE | PRESENT | WRITABLE | USER))
    before = (cpu.rcx, cpu.rdx, cpu.rbx, cpu.rsi)
    cpu.rip = CODE + PAGE - 2
    _run(cpu)
    assert (cpu.rcx, cpu.rdx, cpu.rbx, cpu.rsi) == (before[0] + 1, before[1] + 1, before[2], before[3] + 1)


def test_an_instruction_across_two_pages_follows_the_mapping_of_the_second() -> None:
    first = CODE + PAGE - 1  # mov al, imm8: opcode in one page, operand in the next
    other = 0x3A000
    cpu = _guest(
        f"call {first:#x}; mov bl, al; mov {_entry(CODE + PAGE)}, {other | 7:#x}; "
        f"invlpg [{CODE + PAGE:#x}]; call {first:#x}", paging=True, end="jmp .",
    )  # fmt: skip
    cpu.write(first, b"\xb0\x11\xc3")
    cpu.write(other, b"\x22\xc3")
    cpu.run(cycles=10_000)
    assert (cpu.rbx & 0xFF, cpu.rax & 0xFF) == (0x11, 0x22)
    cpu.write(other, b"\x33")
    cpu.rip = first
    cpu.run(cycles=10)
    assert cpu.rax & 0xFF == 0x33, "a write to the second page alone was not seen"


@pytest.mark.parametrize(("flush", "seen"), [
    ("nop", 1),
    (f"invlpg [{ALIAS:#x}]", 2),
    ("mov eax, cr3; mov cr3, eax", 2),
    ("mov eax, cr4; xor eax, 0x80; mov cr4, eax", 2),
    (f"invlpg [{ALIAS + PAGE:#x}]", 1),
])  # fmt: skip
def test_a_translation_is_stale_until_it_is_invalidated(flush: str, seen: int) -> None:
    cpu = _guest(
        f"mov ebx, [{ALIAS:#x}]; mov {_entry(ALIAS)}, {0x3B000 | 7:#x}; {flush}; mov ebx, [{ALIAS:#x}]",
        paging=True,
    )
    cpu.write(TABLE + ALIAS // PAGE * 4, struct.pack("<I", 0x3A000 | 7))
    cpu.write(0x3A000, b"\x01")
    cpu.write(0x3B000, b"\x02")
    assert _run(cpu).rbx == seen


@pytest.mark.parametrize(("flush", "seen"), [("mov eax, cr3; mov cr3, eax", 1), (f"invlpg [{ALIAS:#x}]", 2),
                                             ("mov eax, cr4; and al, 0x7f; mov cr4, eax", 2)])  # fmt: skip
def test_a_global_translation_survives_a_load_of_cr3(flush: str, seen: int) -> None:
    cpu = _guest(
        f"mov ebx, [{ALIAS:#x}]; mov {_entry(ALIAS)}, {0x3B000 | 7:#x}; {flush}; mov ebx, [{ALIAS:#x}]",
        paging=True,
    )
    cpu.write(TABLE + ALIAS // PAGE * 4, struct.pack("<I", 0x3A000 | GLOBAL | 7))
    cpu.write(0x3A000, b"\x01")
    cpu.write(0x3B000, b"\x02")
    assert _run(cpu).rbx == seen


def test_invlpg_anywhere_in_a_large_page_invalidates_all_of_it() -> None:
    """SDM vol. 3, 4.10.4.1."""
    cpu = _guest(
        f"mov ebx, [{FAR + 0x3A000:#x}]; mov dword ptr [{DIRECTORY + 4:#x}], 0; invlpg [{FAR + 0x5000:#x}]; "
        f"mov ebx, [{FAR + 0x3A000:#x}]", paging=True,
    )  # fmt: skip
    cpu.write(DIRECTORY + 4, struct.pack("<I", LARGE | 7))
    cpu.write(0x3A000, b"\x01\0\0\0")
    assert _run(cpu).rip == PAGE_FAULT_STUB + 1 and cpu.rbx == 1 and cpu.cr2 == FAR + 0x3A000


def test_ring_3_does_not_run_a_supervisor_page_that_ring_0_has_run() -> None:
    secret = 0x3A000
    # Ring 0 runs the page many times over, then returns to ring 3, which jumps there by a register.
    cpu = _guest(
        f"mov ecx, 50; mov eax, {secret:#x}; 1: call eax; loop 1b; push 0x4b; push 0xe800; push 2; push 0x43; push offset 2f;"
        f"iretd; 2: mov eax, {secret:#x}; jmp eax", paging=True,
    )  # fmt: skip
    cpu.write(secret, b"\xc3")
    cpu.write(TABLE + secret // PAGE * 4, struct.pack("<I", secret | PRESENT | WRITABLE))
    assert _run(cpu).rip == PAGE_FAULT_STUB + 1 and cpu.cr2 == secret and cpu.cpl == 0
    error = struct.unpack("<I", cpu.read(cpu.rsp, 4))[0]
    assert error == 0x5, f"error code {error:#x} is not that of a user access to a present page"


def test_without_a20_the_second_megabyte_is_the_first() -> None:
    cpu = Vcpu(2 << 20)
    cpu.write(0x8000, bytes.fromhex("b001 8a1e1080 ebfe"))  # mov al, 1; mov bl, [0x8010]; jmp .
    cpu.write(0x108000, bytes.fromhex("b002 8a1e1080 ebfe"))
    seen = []
    for enabled in (True, False, True):
        cpu.a20 = enabled
        for name, rights in (("cs", 0x9B), ("ds", 0x93)):
            cpu.set_segment(name, 0xFFFF, 0xFFFF0, 0xFFFF, rights)
        cpu.rip = 0x8010
        cpu.run(cycles=10_000)
        seen.append((cpu.rax & 0xFF, cpu.rbx & 0xFF))
    assert seen == [(2, 0xB0), (1, 0xB0), (2, 0xB0)]
