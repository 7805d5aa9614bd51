"""What a translator of code gets wrong, case by case; each is also compared with the same guest interpreted.

Loops make blocks hot: ten rounds and more, of blocks that are translated when first decoded or when entered a few times.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import pytest
from iced_x86 import Decoder

from hvmx.core.exit_info import Exit
from hvmx.core.vcpu import Vcpu
from hvmx.vocabulary import ExitReason

from .machine import CODE, DATA, STOP_HALTED, assemble
from .program_guest import (
    ABSENT,
    FRAME1,
    FRAME2,
    OF_THE_HOST,
    PAGE,
    STACK,
    TABLES,
    differences,
    guest,
    image,
    outcome,
    records,
)

CYCLES = 1_000_000
CF, PF, AF, ZF, SF, OF = 1, 4, 0x10, 0x40, 0x80, 0x800
ARITHMETIC = CF | PF | AF | ZF | SF | OF
BOTH = pytest.mark.parametrize("bits", [64, 32])
pytestmark = pytest.mark.parametrize("after", [0, 1, 3])
DB, PF_VECTOR, AC_VECTOR, DE_VECTOR, GP_VECTOR = 1, 14, 17, 0, 13

Drive = Callable[[Vcpu], object]


@cache
def _code(bits: int, source: str) -> dict[int, bytes]:
    """Instructions by their addresses. In the source {ax}, {bx}, ... are registers as wide as addresses."""
    names = {letters: f"{'r' if bits == 64 else 'e'}{letters}" for letters in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")}
    names |= {"rip": "rip + " if bits == 64 else "", "word": "qword" if bits == 64 else "dword"}
    data = assemble(bits, [source.format(**names)])[0]
    return {found.ip: data[found.ip - CODE : found.next_ip - CODE] for found in Decoder(bits, data, ip=CODE)}


def _rounds(count: int, body: str) -> str:
    return f"mov ecx, {count}; 1: {body}; dec ecx; jnz 1b; hlt"


def _seen_by_the_guest(cpu: Vcpu) -> dict[str, int]:
    return {name: count for name, count in cpu.counters().items() if name not in OF_THE_HOST}


def _to_the_end(cpu: Vcpu) -> None:
    assert cpu.run(cycles=CYCLES) == STOP_HALTED, f"the guest is still at {cpu.rip:#x}"


def _run(bits: int, source: str, after: int, drive: Drive = _to_the_end, *, cpl: int = 0, **registers: int) -> Vcpu:
    """The translated guest at its end, which is as the interpreted one. It has RSI at DATA, and zeros."""
    code = _code(bits, source)
    memory = image(bits, cpl, code, bytes(4 * PAGE))
    wide = ["rax", "rcx", "rdx", "rbx", "rbp", "rdi"] + [f"r{n}" for n in range(8, 16)] * (bits == 64)
    results, guests = [], []
    for count in (after, None):
        exits: list[object] = []
        start = dict.fromkeys(wide, 0) | {"rsi": DATA, "rsp": STACK, "rip": CODE, "rflags": 2} | registers
        cpu = guest(bits, cpl, memory, start, exits)
        cpu.translate_after = count
        drive(cpu)
        results.append(outcome(cpu, 0, [], exits))
        guests.append(cpu)
    assert not (different := differences(*results)), "\n".join(different)
    return guests[0]


def _entry(bits: int, linear: int) -> int:
    """Where the lowest page table has this page."""
    return TABLES + 0x3000 + linear // PAGE * (8 if bits == 64 else 4)


@BOTH
def test_a_block_is_translated_when_it_has_been_entered_so_often(after: int, bits: int) -> None:
    """The block of the start is entered once, and has the first round; that of the loop once for each other round."""
    for rounds in range(1, after + 4):
        translated = _run(bits, _rounds(rounds, "lea eax, [eax + 1]"), after).counters()["blocks_translated"]
        assert translated == (after <= 1) + (rounds - 1 >= max(after, 1)), f"{rounds} rounds"


# --- faults ---------------------------------------------------------------------------------------------------------------
FAULTING = {
    "load": "mov edx, [{di}]", "store": "mov [{di}], edx", "byte store": "mov [{di}], dh", "read-modify-write": "add [{di}], edx",
    "comparison": "cmp [{di}], edx", "exchange": "xchg [{di}], edx", "sign-extending load": "movsx edx, byte ptr [{di}]",
    "push": "push {word} ptr [{di}]", "pop": "push 7; pop {word} ptr [{di}]", "indirect jump": "jmp {word} ptr [{di}]",
    "multiplication": "imul edx, [{di}]", "conditional move": "cmovz edx, [{di}]", "bit": "bts dword ptr [{di}], 3",
    "scalar": "movups xmm0, [{di}]", "set": "seto byte ptr [{di}]", "shift": "shl dword ptr [{di}], 3",
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("what", FAULTING)
def test_a_fault_in_a_hot_block_shows_the_registers_and_flags_of_before_the_instruction(after: int, bits: int, what: str) -> None:
    """The flags are of an instruction some places before; in all rounds but the last they are overwritten unread."""
    source = (
        "mov ecx, 20; lea {di}, [{si} + 64]; mov {word} ptr [{si} + 64], offset 1f; jmp 8f; "
        f"9: cmp ecx, 1; jne 8f; mov edi, {ABSENT + 0x44}; "
        "8: mov eax, 0x7fffffff; mov ebx, 0x1234; add eax, 1; mov ebp, 0x5678; lea ebx, [ebx + eax]; "
        f"{FAULTING[what]}; 1: mov ebp, 1; xor eax, eax; xor ebx, ebx; dec ecx; jnz 9b; hlt"
    )
    (record,) = records(_run(bits, source, after), bits)
    assert (record.vector, record.cr2) == (PF_VECTOR, ABSENT + 0x44)
    assert record.rflags & ARITHMETIC == OF | SF | AF | PF
    assert (record.registers["rax"], record.registers["rbp"], record.registers["rcx"]) == (0x80000000, 0x5678, 1)
    assert record.registers["rbx"] == 0x80001234


@BOTH
def test_a_division_by_zero_in_a_hot_block_shows_the_flags_of_before(after: int, bits: int) -> None:
    source = _rounds(20, "xor edx, edx; mov eax, 7; mov ebx, ecx; sub ebx, 5; div ebx; add eax, 1; add ebp, eax")
    (record,) = records(_run(bits, source, after), bits)
    assert (record.vector, record.registers["rcx"], record.registers["rax"]) == (DE_VECTOR, 5, 7)
    assert record.rflags & ARITHMETIC == ZF | PF


@BOTH
@pytest.mark.parametrize("store", ["mov [{di}], eax", "xchg [{di}], eax"])
def test_a_store_across_pages_of_which_the_second_is_read_only_changes_nothing(after: int, bits: int, store: str) -> None:
    edge = DATA + 3 * PAGE
    source = f"mov ecx, 20; mov edi, {edge - 40}; 1: mov eax, ecx; {store}; add edi, 2; dec ecx; jnz 1b; hlt"
    cpu = _run(bits, source, after)
    assert [(record.vector, record.error, record.cr2) for record in records(cpu, bits)] == [(PF_VECTOR, 3, edge)]
    assert cpu.read(edge - 4, 8) == b"\2\0\0\0\0\0\0\0"


@BOTH
def test_a_hot_block_whose_page_is_taken_away_faults_at_its_first_instruction(after: int, bits: int) -> None:
    there, entry = CODE + PAGE, _entry(bits, CODE + PAGE)
    source = (
        f"mov ecx, 20; 1: call {there}; dec ecx; jnz 1b; mov dword ptr [{entry}], 0; invlpg [{there}]; call {there}; hlt; "
        f".org {PAGE}; inc ebx; ret"
    )
    cpu = _run(bits, source, after, lambda cpu: cpu.run(cycles=20_000))
    first = records(cpu, bits)[0]
    assert (first.vector, first.cr2, first.rip, first.registers["rbx"]) == (PF_VECTOR, there, there, 20)


# --- code that changes ----------------------------------------------------------------------------------------------------
@BOTH
@pytest.mark.parametrize("between", ["", "nop; nop;", "mov edx, [{si}]; add edx, eax;", "jmp 3f; 3:"])
def test_a_store_to_a_later_instruction_of_its_block_takes_effect_at_once(after: int, bits: int, between: str) -> None:
    source = _rounds(40, "mov byte ptr [{rip} 2f + 1], cl; " + between + " 2: mov al, 0; movzx eax, al; add ebx, eax")
    assert _run(bits, source, after).rbx == sum(range(41))


@BOTH
def test_a_store_to_a_hot_block_by_another_linear_address_takes_effect_at_once(after: int, bits: int) -> None:
    source = _rounds(40, "mov byte ptr [{di} + 2f - 0x8000 + 1], cl; 2: mov al, 0; movzx eax, al; add ebx, eax")
    assert _run(bits, source, after, rdi=0x208000).rbx == sum(range(41))


@BOTH
def test_a_host_that_writes_code_between_slices_has_it_run(after: int, bits: int) -> None:
    values: list[int] = []

    def drive(cpu: Vcpu) -> None:
        for value in (5, 9, 11):
            cpu.rcx, cpu.rip = 30, CODE
            if value == 11:
                cpu.memory[CODE + 1] = value
            else:
                cpu.write(CODE + 1, bytes([value]))
            cpu.run(cycles=1000)
            values.append(cpu.rbx & 0xFF)

    _run(bits, "1: mov bl, 1; dec ecx; jnz 1b; 2: jmp 2b", after, drive)
    assert values == [5, 9, 11] * 2


@BOTH
def test_data_beside_hot_code_may_change_and_the_code_runs_on(after: int, bits: int) -> None:
    source = "mov ecx, 50; 1: add dword ptr [{rip} 2f], ecx; inc ebx; dec ecx; jnz 1b; mov eax, [{rip} 2f]; hlt; 2: .long 0"
    cpu = _run(bits, source, after)
    assert (cpu.rax, cpu.rbx) == (sum(range(51)), 50)


# --- mappings -------------------------------------------------------------------------------------------------------------
@BOTH
@pytest.mark.parametrize(("flush", "misses"), [
    ("invlpg [{si}]", 39), ("mov {dx}, cr3; mov cr3, {dx}", 39 * 2 + 40), ("mov {dx}, cr4; xor edx, 0x80; mov cr4, {dx}", 39 * 2 + 40),
])  # fmt: skip
def test_a_hot_block_misses_the_tlb_after_each_flush(after: int, bits: int, flush: str, misses: int) -> None:
    """Of forty: a page of data, and after loads of control registers the stack and, after the last one too, the code."""

    def missed(what: str) -> int:
        source = _rounds(40, "mov eax, [{si}]; push {ax}; pop {bx}; " + what)
        return _run(bits, source, after).counters()["tlb_misses"]

    assert missed(flush) - missed("nop") == misses


@BOTH
@pytest.mark.parametrize(("flush", "seen"), [("nop", 1), ("invlpg [{si}]", 2)])
def test_a_hot_block_sees_a_remapped_page_when_it_is_flushed(after: int, bits: int, flush: str, seen: int) -> None:
    source = "mov ebp, 2; 2: mov ecx, 20; 1: mov eax, [{si}]; dec ecx; jnz 1b; " + f"mov dword ptr [{_entry(bits, DATA)}], {FRAME2 | 7}; "
    source += flush + "; dec ebp; jnz 2b; hlt"

    def drive(cpu: Vcpu) -> None:
        cpu.write(DATA, b"\1")
        cpu.write(FRAME2, b"\2")
        _to_the_end(cpu)

    assert _run(bits, source, after, drive).rax == seen


@BOTH
def test_a_page_of_hot_code_that_is_remapped_runs_as_the_other_page(after: int, bits: int) -> None:
    there, entry = CODE + PAGE, _entry(bits, CODE + PAGE)
    source = (
        f"mov ebp, 2; 2: mov ecx, 20; 1: call {there}; dec ecx; jnz 1b; mov dword ptr [{entry}], {FRAME1 | 7}; "
        f"invlpg [{there}]; dec ebp; jnz 2b; hlt; .org {PAGE}; add ebx, 1; ret"
    )

    def drive(cpu: Vcpu) -> None:
        cpu.write(FRAME1, bytes.fromhex("81c300010000 c3"))  # add ebx, 0x100; ret
        _to_the_end(cpu)

    assert _run(bits, source, after, drive).rbx == 20 + 20 * 0x100


@BOTH
def test_the_same_code_at_two_linear_addresses_knows_where_it_is(after: int, bits: int) -> None:
    source = _rounds(20, "call 5f; mov [{si}], {ax}; call {di}; mov [{si} + 8], {ax}") + "; .org 0x800; 5: call 6f; 6: pop {ax}; ret"
    cpu = _run(bits, source, after, rdi=0x208800)
    here, there = struct.unpack("<QQ", cpu.read(DATA, 16))
    assert (here, there) == (0x8805, 0x208805)


@BOTH
def test_accessed_and_dirty_bits_are_set_by_the_access_that_does_it(after: int, bits: int) -> None:
    """Of the last of twenty pages' entries, a read that is followed by a write of the same hot block."""
    source = (
        "mov ecx, 20; 1: mov edx, [{si}]; mov eax, [{di}]; mov [{si}], eax; dec ecx; jz 2f; "
        "mov dword ptr [{di}], %d; invlpg [{si}]; jmp 1b; 2: hlt"
    )
    cpu = _run(bits, source % (DATA | 7), after, rdi=_entry(bits, DATA))
    assert struct.unpack("<I", cpu.read(DATA, 4))[0] == DATA | 0x27, "not accessed before the read, or dirty before the write"
    assert struct.unpack("<I", cpu.read(_entry(bits, DATA), 4))[0] == DATA | 0x67


# --- stacks, flags and partial registers ----------------------------------------------------------------------------------
@BOTH
@pytest.mark.parametrize(("source", "expected"), [
    ("push {sp}; pop {ax}; sub {ax}, {sp}", 0),
    ("lea {ax}, [{sp} - 32]; push {ax}; pop {sp}; lea {dx}, [{sp} + 32]; mov {sp}, {dx}; sub {ax}, {dx}; neg {ax}", 32),
    ("mov {bp}, {sp}; push 7; pop {word} ptr [{sp} - 32]; mov {ax}, [{bp} - 32]; sub {bp}, {sp}; add {ax}, {bp}", 7),
    ("push {word} ptr [{sp} - 16]; add {sp}, 3; push {cx}; pop {ax}; sub {ax}, {cx}; sub {sp}, 3; pop {dx}", 0),
    ("mov {bp}, {sp}; push 1; push {sp}; pop {ax}; pop {dx}; sub {bp}, {ax}; mov {ax}, {bp}", None),
])  # fmt: skip
def test_push_and_pop_of_the_stack_pointer_itself(after: int, bits: int, source: str, expected: int | None) -> None:
    cpu = _run(bits, _rounds(20, source), after)
    assert cpu.rax == (bits // 8 if expected is None else expected)
    assert cpu.rsp == STACK


@BOTH
@pytest.mark.parametrize(("compared", "jump"), [
    ("cmp eax, [{si}]", "jl"), ("cmp [{si}], eax", "jg"), ("cmp dword ptr [{si}], 30", "jg"), ("test [{si}], eax", "jz"),
    ("sub eax, [{si}]", "js"), ("cmp eax, [{si}]", "jb"),
])  # fmt: skip
def test_jumps_are_by_what_was_compared_though_it_is_then_overwritten(after: int, bits: int, compared: str, jump: str) -> None:
    """EAX goes from 40 down to 1, memory holds 30."""
    source = "mov ecx, 40; 1: mov dword ptr [{si}], 30; mov eax, ecx; " + compared
    source += "; mov eax, 0x80000000; mov dword ptr [{si}], eax; mov edx, 0; " + jump + " 2f; inc ebx; 2: dec ecx; jnz 1b; hlt"
    taken = 29
    if jump == "jz":
        taken = sum(not number & 30 for number in range(1, 41))
    elif compared == "cmp dword ptr [{si}], 30":
        taken = 0
    assert _run(bits, source, after).rbx == 40 - taken


@BOTH
def test_flags_of_a_hot_block_are_read_in_the_next_one(after: int, bits: int) -> None:
    """Two jumps after one comparison, then SETcc and ADC in blocks of their own."""
    source = (
        "mov ecx, 40; 1: cmp ecx, 20; ja 2f; jb 3f; or ebp, 0x100; 2: setb dl; adc ebx, 0; jmp 4f; 3: setb dl; adc ebx, 0x10000; "
        "jmp 4f; 4: pushf; pop {ax}; and eax, 1; add edi, eax; dec ecx; jnz 1b; hlt"
    )
    cpu = _run(bits, source, after)
    assert (cpu.rbx, cpu.rbp) == (19 * 0x10001, 0x100)


@BOTH
def test_shifts_by_zero_leave_all_flags(after: int, bits: int) -> None:
    source = "mov ebx, 30; xor ecx, ecx; 1: mov eax, 0x7fffffff; add eax, 1; shl edx, cl; rol edx, 0; shld edx, eax, cl; rcr edx, cl; pushf; pop {bp}; dec ebx; jnz 1b; hlt"
    assert _run(bits, source, after).rbp & ARITHMETIC == OF | SF | AF | PF


@BOTH
def test_parts_of_registers_merge_and_32_bits_clear_the_rest(after: int, bits: int) -> None:
    source = "mov edx, 30; 1: mov {bx}, -1; mov bl, 0x11; mov bh, bl; add bh, 0xf0; mov ax, bx; xchg al, ah; movzx ecx, ah; mov ah, bl; dec edx; jnz 1b; hlt"
    cpu = _run(bits, source, after)
    assert (cpu.rbx, cpu.rax & 0xFFFF, cpu.rcx) == ((1 << bits) - 0x10000 + 0x0111, 0x1101, 0x11)


# --- time -----------------------------------------------------------------------------------------------------------------
LOOP = _rounds(12, "mov eax, [{si}]; add [{si}], ecx; imul eax, ecx; xor edx, eax")


@BOTH
def test_a_budget_that_ends_within_a_hot_loop_ends_it_where_interpreted_code_stops(after: int, bits: int) -> None:
    whole = _run(bits, LOOP, after)
    for cycles in range(1, whole.cycles + 2):

        def drive(cpu: Vcpu, cycles: int = cycles) -> None:
            cpu.run(cycles=cycles)

        stopped = _run(bits, LOOP, after, drive)
        assert stopped.cycles >= min(cycles, whole.cycles)
        _to_the_end(stopped)
        assert stopped.cycles == whole.cycles and _seen_by_the_guest(stopped) == _seen_by_the_guest(whole)
        assert (stopped.rdx, stopped.rax, stopped.read(DATA, 4)) == (whole.rdx, whole.rax, whole.read(DATA, 4))


@BOTH
def test_hot_code_reads_the_time_stamp_counter_of_the_moment(after: int, bits: int) -> None:
    source = _rounds(30, "add ebx, 3; mov edx, [{si}]; rdtsc; mov [{si} + {cx} * 4], eax; imul ebx, ecx")
    stamps = struct.unpack("<30I", _run(bits, source, after).read(DATA + 4, 120))
    steps = {earlier - later for earlier, later in pairwise(stamps[:20])}
    assert max(steps) - min(steps) <= 1 and min(steps) > 0


@BOTH
def test_a_hot_block_that_asks_a_device_shows_it_all_registers_and_is_resumed(after: int, bits: int) -> None:
    """Once in a while the handler raises: then it is as before the instruction, and asked again."""
    seen: list[tuple[int, int, int]] = []

    def drive(cpu: Vcpu) -> None:
        asked = 0

        def device(vcpu: Vcpu, exit: Exit) -> None:
            nonlocal asked
            asked += 1
            seen.append((vcpu.rcx, vcpu.rbx, vcpu.rflags & ARITHMETIC))
            if asked % 5 == 4:
                raise InterruptedError
            exit.value = 3

        cpu.set_handler(ExitReason.EPT_MISCONFIG, device)
        raised = 0
        while not cpu.halted:
            try:
                cpu.run(cycles=CYCLES)
            except InterruptedError:
                raised += 1
                assert cpu.rip == asking
        assert raised == 10

    source = _rounds(40, "mov eax, 0x7fffffff; lea ebx, [{cx} + 5]; add eax, 1; mov edx, [{di}]; xor eax, eax; add ebp, edx")
    asking = CODE + 5 + 5 + 3 + 3
    assert _run(bits, source, after, drive, rdi=0x40C000).rbp == 120
    assert {flags for _, _, flags in seen} == {OF | SF | AF | PF}
    assert all(rbx == rcx + 5 for rcx, rbx, _ in seen) and len(seen) == 2 * 50


# --- debugging, privilege, ROM --------------------------------------------------------------------------------------------
@BOTH
def test_with_tf_set_a_hot_block_is_stepped_through(after: int, bits: int) -> None:
    """The handler clears TF: one step in each of the last three rounds."""
    source = _rounds(20, "cmp ecx, 3; ja 2f; pushf; or dword ptr [{sp}], 0x100; popf; 2: add ebx, 1; mov edx, [{si}]")
    cpu = _run(bits, source, after)
    found = [(record.vector, record.registers["rcx"], record.registers["rbx"]) for record in records(cpu, bits)]
    assert found == [(DB, rounds, 21 - rounds) for rounds in (3, 2, 1)]
    assert cpu.rbx == 20


@BOTH
@pytest.mark.parametrize(("access", "dr7"), [("mov edx, [{di}]", 0xF0001), ("mov [{di}], ecx", 0xD0001), ("add [{di}], ecx", 0xD0001)])
def test_a_breakpoint_on_data_that_is_set_while_a_block_is_hot_is_met(after: int, bits: int, access: str, dr7: int) -> None:
    def drive(cpu: Vcpu) -> None:
        while cpu.rbx < 20:
            cpu.run(cycles=10)
        cpu.dr0, cpu.dr7 = DATA + 0x20, dr7 | 0x400
        watched.append(_accesses(cpu))
        while cpu.rbx < 40:
            cpu.run(cycles=10)
        cpu.dr7 = 0x400
        watched.append(_accesses(cpu))
        _to_the_end(cpu)

    def _accesses(cpu: Vcpu) -> int:
        """So many rounds have made their access: EBX counts a round before its own."""
        return cpu.rbx - (cpu.rip == access_at)

    watched: list[int] = []
    source = _rounds(50, f"add ebx, 1; {access}; mov eax, 5")
    access_at = sorted(_code(bits, source))[2]
    cpu = _run(bits, source, after, drive, rdi=DATA + 0x20)
    found = records(cpu, bits)
    first, last = watched[-2] + 1, watched[-1]
    assert 20 <= first < last < 50
    assert [(record.vector, record.registers["rbx"]) for record in found] == [(DB, rounds) for rounds in range(first, last + 1)]


@BOTH
def test_a_breakpoint_on_data_that_a_hot_block_sets_itself_is_met(after: int, bits: int) -> None:
    source = (
        "mov dr0, {di}; mov ecx, 30; 1: add ebx, 1; mov [{di}], ebx; mov eax, 5; dec ecx; jnz 1b; cmp edx, 2; je 3f; "
        "inc edx; mov ecx, 6; cmp edx, 2; je 2f; mov {ax}, 0xd0401; mov dr7, {ax}; jmp 1b; 2: mov {ax}, 0x400; mov dr7, {ax}; jmp 1b; 3: hlt"
    )
    cpu = _run(bits, source, after, rdi=DATA + 0x20)
    assert [record.registers["rbx"] for record in records(cpu, bits)] == list(range(31, 37))
    assert cpu.rbx == 42


@BOTH
def test_hot_code_in_rom_runs_and_what_it_writes_there_is_dropped(after: int, bits: int) -> None:
    def drive(cpu: Vcpu) -> None:
        cpu.add_rom(CODE, cpu.read(CODE, PAGE))
        _to_the_end(cpu)

    source = _rounds(40, "mov byte ptr [{rip} 2f + 1], 9; 2: mov al, 1; movzx eax, al; add ebx, eax")
    assert _run(bits, source, after, drive).rbx == 40


@BOTH
def test_ring_3_has_its_own_rights_in_a_block_that_is_hot_in_ring_0(after: int, bits: int) -> None:
    """The block reads a page of the supervisor's."""
    selector, ret = (0x53, "iretq") if bits == 64 else (0x43, "iretd")
    source = ("mov eax, 0x4b; mov ds, ax; mov es, ax; " if bits == 32 else "") + (
        f"mov ecx, 20; 1: call 5f; dec ecx; jnz 1b; push 0x4b; push {STACK}; push 2; push {selector}; mov {{ax}}, offset 2f; push {{ax}}; "
        f"{ret}; 2: mov ecx, 8; 3: call 5f; dec ecx; jnz 3b; 4: jmp 4b; 5: mov edx, [{{di}}]; add ebx, 1; ret"
    )
    cpu = _run(bits, source, after, lambda cpu: cpu.run(cycles=30_000), rdi=0x20D010)
    assert [(record.vector, record.error, record.cr2) for record in records(cpu, bits)] == [(PF_VECTOR, 5, 0x20D010)] * 8
    assert (cpu.rbx, cpu.cpl) == (28, 3)


WAYS = ["jmp {there}", "cmp eax, eax; je {there}; hlt", "push {there}; ret", "mov eax, {there}; jmp {{ax}}", "call {there}; ret"]


@BOTH
@pytest.mark.parametrize("way", WAYS)
def test_a_block_that_is_hot_in_ring_0_does_not_lead_ring_3_to_code_of_the_supervisor(after: int, bits: int, way: str) -> None:
    """Both rings run the block that branches, of a page that both may run; the target's page is the supervisor's."""
    selector, ret = (0x53, "iretq") if bits == 64 else (0x43, "iretd")
    source = ("mov eax, 0x4b; mov ds, ax; mov es, ax; " if bits == 32 else "") + (
        f"mov ecx, 20; 1: call 5f; dec ecx; jnz 1b; push 0x4b; push {STACK}; push 2; push {selector}; mov {{ax}}, offset 2f; push {{ax}}; "
        f"{ret}; 2: call 5f; 4: jmp 4b; 5: {way.format(there=FRAME1)}"
    )

    def drive(cpu: Vcpu) -> None:
        cpu.write(FRAME1, bytes.fromhex("ffc3 c3"))  # inc ebx; ret
        cpu.run(cycles=20_000)

    cpu = _run(bits, source, after, drive)
    first = records(cpu, bits)[0]
    assert (first.vector, first.error & 7, first.cr2, first.rip) == (PF_VECTOR, 5, FRAME1, FRAME1)
    assert cpu.rbx == 20


@pytest.mark.parametrize("way", ["jmp rax", "call rax", "mov [rsi], rax; jmp [rsi]", "mov [rsi], rax; call [rsi]", "push rax; ret"])
@pytest.mark.parametrize("ring", [0, 3])
def test_no_branch_goes_to_an_address_that_is_not_canonical_though_it_looks_like_a_known_one(after: int, ring: int, way: str) -> None:
    """In the jump cache's keys, bits 48 and up of a target mix with those of the mode and the privilege.

    What ring 0 knows is a routine of 32-bit code, and ring 3 one of the supervisor's.
    """
    if ring == 0:
        start = f"mov dword ptr [rsi + 8], {FRAME1}; mov dword ptr [rsi + 12], 8; mov ecx, 20; 1: call fword ptr [rsi + 8]; dec ecx; jnz 1b; "
    else:
        start = f"mov ecx, 20; 1: mov eax, {FRAME1}; call rax; dec ecx; jnz 1b; push 0x4b; push {STACK}; push 2; push 0x53; "
        start += "mov rax, offset 2f; push rax; iretq; "
    target = FRAME1 ^ (3 if ring == 0 else 0x40) << 48
    source = start + f"2: mov ecx, 8; 3: movabs rax, {target}; push rcx; mov [rsi], rcx; pop rcx; cmp ecx, 3; ja 5f; {way}; 5: dec ecx; jnz 3b; 4: jmp 4b"

    def drive(cpu: Vcpu) -> None:
        cpu.write(FRAME1, bytes.fromhex("ffc3 c3" if ring == 3 else "43 cb"))  # inc ebx; ret or retf
        cpu.run(cycles=20_000)

    cpu = _run(64, source, after, drive)
    assert [(record.vector, record.error) for record in records(cpu, 64)] == [(GP_VECTOR, 0)] * 3
    assert (cpu.rbx, cpu.cpl) == (20, ring)


@pytest.mark.parametrize("way", ["jmp rax", "call rax", "mov [rsi], rax; jmp [rsi]", "mov [rsi], rax; call [rsi]", "push rax; ret"])
@pytest.mark.parametrize("ring", [0, 3])
def test_no_branch_goes_to_an_address_that_looks_like_an_empty_place_of_the_jump_cache(after: int, ring: int, way: str) -> None:
    """Bit 63 alone marks these; the address has it with the bits of some mode."""
    for first in range(0x8000, 0x8080, 32):
        source = f"movabs rax, {first << 48}; movabs rdx, {1 << 48}; mov ecx, 32; 3: {way}; add rax, rdx; dec ecx; jnz 3b; 4: jmp 4b"
        cpu = _run(64, source, after, lambda cpu: cpu.run(cycles=100_000), cpl=ring)
        assert [(record.vector, record.error) for record in records(cpu, 64)] == [(GP_VECTOR, 0)] * 32


@BOTH
@pytest.mark.parametrize("access", [
    "mov edx, [{di} + 1]", "mov [{di} + 2], edx", "add [{di} + 3], edx", "cmp dx, [{di} + 1]", "push {word} ptr [{di} + 2]; pop {ax}",
])  # fmt: skip
def test_alignment_is_checked_in_a_hot_block_once_ac_is_set(after: int, bits: int, access: str) -> None:
    """The handler clears AC: one exception in each of the last three rounds, after accesses that are aligned."""
    source = "mov ecx, 20; 1: cmp ecx, 3; ja 2f; pushf; or dword ptr [{sp}], 0x40000; popf; 2: "
    source += "add ebx, 1; mov eax, [{di}]; mov [{di}], eax; " + access + "; dec ecx; jnz 1b; 3: jmp 3b"
    cpu = _run(bits, source, after, lambda cpu: cpu.run(cycles=20_000), cpl=3, rdi=DATA + 0x40)
    found = [(record.vector, record.error, record.registers["rcx"]) for record in records(cpu, bits)]
    assert found == [(AC_VECTOR, 0, rounds) for rounds in (3, 2, 1)]
    assert (cpu.rbx, cpu.rcx) == (20, 0)


def test_segments_of_32_bits_that_are_not_flat_are_checked_in_a_hot_block(after: int) -> None:
    """FS ends after 0x100 bytes: of 40 reads, those that reach beyond fault."""
    cpu = _run(32, "mov ecx, 40; mov edi, 0xe0; 1: mov edx, fs:[edi]; add ebx, 1; inc edi; dec ecx; jnz 1b; hlt", after)
    assert [record.registers["rdi"] for record in records(cpu, 32)] == list(range(0xFD, 0xE0 + 40))
    assert cpu.rbx == 40


def test_the_bases_of_fs_and_gs_are_those_of_the_moment_in_a_hot_block(after: int) -> None:
    source = _rounds(40, "mov eax, fs:[0x10]; add ebx, eax; mov edx, gs:[0x10]; add ebp, edx")
    sums = []

    def drive(cpu: Vcpu) -> None:
        cpu.write(DATA + 0x50, b"\1\0\0\0\2")
        cpu.fs_base, cpu.gs_base = DATA + 0x40, DATA + 0x44
        while cpu.rip == CODE or cpu.rcx > 20:
            cpu.run(cycles=1)
        rounds, cpu.fs_base, cpu.gs_base = cpu.rcx, cpu.gs_base, cpu.fs_base
        sums.append((40 - rounds + 2 * rounds, 2 * (40 - rounds) + rounds))
        _to_the_end(cpu)

    cpu = _run(64, source, after, drive)
    assert (cpu.rbx, cpu.rbp) == sums[0] and sums[0] == sums[1]
