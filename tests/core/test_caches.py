"""Where caches are modelled, every access of a guest's data is seen and takes what its level says, however the run is cut."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from typing import Any

import pytest

from hvmx.core.vcpu import Vcpu
from hvmx.cost import load_profile
from hvmx.cost.profile import FRACTION
from hvmx.vocabulary import ExitReason

from . import program_guest
from .cut_guest import (
    PIECES,
    CutGuest,
    differences,
    mixture,
    ones,
    program,
    random_programs,
    run_in_parts,
    run_whole,
    steps,
)
from .machine import CODE, assemble, world
from .program_guest import OF_THE_HOST
from .test_translator import Comparison, at_once, in_slices

LINE, KB = 64, 1 << 10
L1, L2, L3 = (1 * KB, 2, 0), (4 * KB, 4, 10 * FRACTION), (16 * KB, 4, 40 * FRACTION)
"""Caches so small that little programs miss in all of them: sixteen lines in eight sets of two, and so on."""
MEMORY, PREFETCHED, STORES = 200, 3, 8
SMALL: dict[str, Any] = {"memory": MEMORY * FRACTION, "prefetched": PREFETCHED * FRACTION, "overlapping_stores": STORES}


def _small_profile() -> Any:
    profile = load_profile("skylake").with_caches()
    levels = {
        name: replace(getattr(profile.caches, name), size=size // KB, ways=ways)
        for name, (size, ways, _) in (("l1", L1), ("l2", L2), ("l3", L3))
    }
    return replace(profile, caches=replace(profile.caches, **levels))


PROFILE = _small_profile()


def guest(source: str, *, after: int | None = None, levels: Any = (L1, L2, L3), **caches: Any) -> Vcpu:
    """In 64-bit mode, one to one; instructions take next to no time. RBX is at data, RSP below it."""
    state = world(64, assemble(64, [source.replace(";", "\n") + "\nhlt"])[0])
    vcpu = Vcpu(8 << 20)
    vcpu.set_costs({}, {})
    vcpu.set_caches(levels, **(SMALL | caches))
    for where, data in state.memory.items():
        vcpu.write(where, data)
    # All of RAM in pages of 2 MiB, one to one.
    vcpu.write(0x100000, struct.pack("<Q", 0x101003))
    vcpu.write(0x101000, struct.pack("<Q", 0x102003))
    vcpu.write(0x102000, struct.pack("<4Q", *(n << 21 | 0xE3 for n in range(4))))
    vcpu.cr4, vcpu.efer, vcpu.cr3, vcpu.cr0 = state.cr4, state.efer, 0x100000, state.cr0
    vcpu.gdtr, vcpu.idtr = state.gdtr, state.idtr
    for name, segment in state.segments.items():
        vcpu.set_segment(name, *segment)
    for name, value in state.registers.items():
        setattr(vcpu, name, value)
    vcpu.rbx, vcpu.rsp, vcpu.rsi, vcpu.rdi = 0x200000, 0x210000, 0x220000, 0x230000
    vcpu.translate_after = after
    return vcpu


def found(source: str, **setup: Any) -> dict[str, int]:
    """Where the accesses of a program found their lines."""
    vcpu = guest(source, **setup)
    vcpu.run(cycles=100_000_000)
    assert vcpu.halted, hex(vcpu.rip)
    hits = vcpu.cache_hits()
    assert hits is not None
    return hits


def places(source: str, **setup: Any) -> tuple[int, ...]:
    hits = found(source, **setup)
    return tuple(hits[name] for name in ("l1", "l2", "l3", "memory"))


def cycles(source: str, **setup: Any) -> int:
    """What its data takes beyond the same where all hits the first level."""
    return _cycles(source, **setup) - _cycles(source, levels=()) - _cycles("", **setup)


def _cycles(source: str, **setup: Any) -> int:
    """With the page walk for the code. That for the data reads an entry beside one of those."""
    vcpu = guest(source, **setup)
    vcpu.run(cycles=100_000_000)
    assert vcpu.halted
    return vcpu.cycles


def reads(*offsets: int) -> str:
    return "".join(f"mov al, [rbx + {offset:#x}]; " for offset in offsets)


def times(count: int, source: str) -> str:
    return f"mov ecx, {count}; 9: {source} dec ecx; jnz 9b; "


# --- every access is seen -------------------------------------------------------------------------------------------------
ACCESSES = {
    "mov al, [rbx]": 1, "mov [rbx], rax": 1, "mov dword ptr [rbx], 5": 1, "movzx eax, word ptr [rbx]": 1, "movsxd rax, [rbx]": 1,
    "add rax, [rbx]": 1, "cmp [rbx], eax": 1, "test [rbx], al": 1, "imul eax, [rbx], 3": 1, "mul qword ptr [rbx]": 1,
    "add [rbx], eax": 2, "inc byte ptr [rbx]": 2, "not word ptr [rbx]": 2, "lock add [rbx], rax": 2, "shl dword ptr [rbx], 3": 2,
    "shld [rbx], eax, 4": 2, "bts dword ptr [rbx], 3": 2, "bt dword ptr [rbx], 3": 1, "bts [rbx], eax": 2, "setz [rbx]": 1,
    "xchg [rbx], eax": 2, "xadd [rbx], eax": 2, "cmpxchg [rbx], ecx": 2, "cmpxchg8b [rbx]": 2, "cmpxchg16b [rbx]": 4,
    "cmovz eax, [rbx]": 1, "movbe eax, [rbx]": 1, "popcnt eax, [rbx]": 1, "crc32 eax, dword ptr [rbx]": 1, "xlatb": 1,
    "push rax": 1, "pop rax": 1, "push qword ptr [rbx]": 2, "pop qword ptr [rbx]": 2, "pushfq": 1, "popfq": 1, "leave; mov rbp, rbx": 1,
    "enter 16, 0": 1, "call 1f; 1: nop": 1, "lea rax, [rip + 1f]; push rax; ret; 1: nop": 2, "lea rax, [rip + 1f]; call rax; 1: nop": 1,
    "lea rax, [rip + 1f]; mov [rbx], rax; jmp [rbx]; 1: nop": 2, "lea rax, [rip + 1f]; mov [rbx], rax; call [rbx]; 1: nop": 3,
    "movsb": 2, "movsq": 2, "stosd": 1, "lodsw": 1, "cmpsb": 2, "scasq": 1, "mov ecx, 8; rep movsb": 16, "mov ecx, 5; rep stosq": 5,
    "mov ecx, 4; rep lodsb": 4, "mov ecx, 3; xor eax, eax; repe scasb": 3, "mov ecx, 6; repe cmpsd": 12, "std; mov ecx, 3; rep movsd; cld": 6,
    "fld dword ptr [rbx]": 1, "fld qword ptr [rbx]": 1, "fld tbyte ptr [rbx]": 2, "fld1; fstp qword ptr [rbx]": 1,
    "fld1; fstp tbyte ptr [rbx]": 2, "fild word ptr [rbx]": 1, "fld1; fistp dword ptr [rbx]": 1, "fld1; fadd dword ptr [rbx]": 1,
    "fbld [rbx]": 2, "fldcw [rbx]": 1, "fnstcw [rbx]": 1, "fnstsw [rbx]": 1,
    "movaps xmm0, [rbx]": 2, "movups [rbx], xmm0": 2, "movss xmm0, [rbx]": 1, "movsd [rbx], xmm0": 1, "addps xmm0, [rbx]": 2,
    "addsd xmm0, [rbx]": 1, "pxor xmm0, [rbx]": 2, "movlps xmm0, [rbx]": 1, "movhps [rbx], xmm0": 1, "cvtsi2sd xmm0, dword ptr [rbx]": 1,
    "movq mm0, [rbx]": 1, "paddb mm0, [rbx]": 1, "movq [rbx], mm0": 1, "pinsrw xmm0, [rbx], 1": 1, "pshufb xmm0, [rbx]": 2,
    "movd xmm0, [rbx]": 1, "movntdq [rbx], xmm0": 2, "ldmxcsr [rbx]": 1, "stmxcsr [rbx]": 1, "aesenc xmm0, [rbx]": 2,
    "sgdt [rbx]": 2, "sidt [rbx]": 2, "sgdt [rbx]; lgdt [rbx]": 4, "smsw [rbx]": 1, "str [rbx]": 1, "mov ax, ss; mov ss, ax": 1,
    "mov ax, ss; mov [rbx], ax; mov ss, [rbx]": 3, "prefetchnta [rbx]": 0, "nop dword ptr [rbx]": 0, "lea rax, [rbx]": 0, "clflush [rbx]": 0,
    "mov ecx, 3; rep outsb": 3,
}  # fmt: skip
"""Accesses of each, bytes of the same line in pieces of at most 8 each being one; a read-modify-write is two."""
SETTINGS = {"ldmxcsr [rbx]": b"\x80\x1f", "fldcw [rbx]": b"\x7f\x03", "popfq": b"\x02"}


@pytest.mark.parametrize("after", [None, 0], ids=["interpreted", "translated"])
@pytest.mark.parametrize("source", ACCESSES)
def test_every_kind_of_access_is_seen(source: str, after: int | None) -> None:
    vcpu = guest("fninit; mov rbp, rbx; " * ("fninit" not in source) + source, after=after)
    vcpu.controls = 0
    vcpu.set_handler(ExitReason.IO_INSTRUCTION, lambda vcpu, exit: None)
    vcpu.write(0x200000, SETTINGS.get(source, bytes(16)))
    vcpu.write(0x210000, SETTINGS.get(source, bytes(16)))
    vcpu.run(cycles=1_000_000)
    assert vcpu.halted and vcpu.rip > CODE, "it did not come to its end"
    hits = vcpu.cache_hits()
    assert hits is not None
    assert sum(hits[name] for name in ("l1", "l2", "l3", "memory")) == ACCESSES[source]


def test_whole_images_of_state_are_seen() -> None:
    """Line by line: what FXSAVE and the others leave out of theirs is no access."""
    for source, lines in (("fxsave [rbx]", 7), ("fnsave [rbx]", 2), ("fnstenv [rbx]", 1)):
        hits = found(f"fninit; {source}")
        assert lines <= hits["memory"] + hits["prefetched"] <= lines + 1, source


def test_what_the_processor_reads_for_itself_is_seen() -> None:
    """An interrupt reads a gate of 16 bytes and a descriptor of 8, and pushes five words; IRETQ reads them and two descriptors."""
    vcpu = guest("int 0x30")
    vcpu.run(cycles=1_000_000)
    assert vcpu.halted
    hits = vcpu.cache_hits()
    assert hits is not None
    assert sum(hits[name] for name in ("l1", "l2", "l3", "memory")) >= 2 + 1 + 5


def test_a_device_is_no_cache() -> None:
    vcpu = guest("mov rbx, 0x300000; mov eax, [rbx]; mov [rbx + 8], eax; add [rbx], eax")
    vcpu.add_hole(0x300000, 0x1000)
    vcpu.set_handler(ExitReason.EPT_MISCONFIG, lambda vcpu, exit: None)
    vcpu.run(cycles=1_000_000)
    hits = vcpu.cache_hits()
    assert hits is not None
    assert not any(hits[name] for name in ("l1", "l2", "l3", "memory"))


def test_what_lies_in_two_lines_is_two_accesses() -> None:
    assert sum(places("mov rax, [rbx + 60]")) == 2
    assert sum(places("mov rax, [rbx + 0x2ffc]")) == 2
    assert sum(places("movups xmm0, [rbx + 56]")) == 2


def test_without_caches_nothing_is_counted() -> None:
    vcpu = guest(reads(0, 64), levels=())
    vcpu.run(cycles=1000)
    assert vcpu.cache_hits() is None


# --- levels -----------------------------------------------------------------------------------------------------------------
def test_a_line_is_missed_once_and_then_hits() -> None:
    assert places(times(100, reads(0, 8, 63))) == (299, 0, 0, 1)


def test_a_miss_costs_what_its_level_says_beyond_the_first() -> None:
    assert cycles(reads(0)) == MEMORY
    assert cycles(reads(0, 0)) == MEMORY
    # Three lines of one set of two ways: in turn, the one that is read next has always just gone to L2.
    three = reads(0, 512, 1024)
    assert places(times(10, three)) == (0, 27, 0, 3)
    assert cycles(times(10, three)) == 3 * MEMORY + 27 * 10


def test_the_first_level_keeps_what_was_used_last() -> None:
    assert places(reads(0, 512, 0, 1024, 0, 1024, 512)) == (3, 1, 0, 3)


def test_a_store_costs_as_much_less_as_misses_of_stores_overlap() -> None:
    assert cycles("mov [rbx], al") == MEMORY // STORES
    assert cycles("mov [rbx], al; mov al, [rbx]") == MEMORY // STORES
    assert cycles("add [rbx], al") == MEMORY, "a read-modify-write waits for what it reads"


def chase(lines: int, rounds: int, stride: int = LINE, seed: int = 1) -> Vcpu:
    """A guest that goes round a random chain of so many lines."""
    order = list(range(lines))
    random.Random(seed).shuffle(order)
    vcpu = guest(f"mov edx, {rounds}; 1: mov ecx, {lines}; 2: mov rbx, [rbx]; dec ecx; jnz 2b; dec edx; jnz 1b")
    for here, there in zip(order, order[1:] + order[:1], strict=True):
        vcpu.write(0x200000 + here * stride, struct.pack("<Q", 0x200000 + there * stride))
    vcpu.rbx = 0x200000 + order[0] * stride
    return vcpu


@pytest.mark.parametrize(
    ("size", "level"), [(512, "l1"), (1 * KB, "l1"), (3 * KB, "l2"), (12 * KB, "l3"), (256 * KB, "memory")]
)
def test_a_chase_finds_its_lines_where_they_fit(size: int, level: str) -> None:
    vcpu = chase(size // LINE, 20)
    vcpu.run(cycles=1 << 40)
    hits = vcpu.cache_hits()
    assert hits is not None
    assert hits[level] >= 0.6 * 20 * size / LINE, hits


# --- the prefetcher ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("step", [LINE, -LINE], ids=["up", "down"])
def test_a_stream_is_fetched_ahead_after_two_misses(step: int) -> None:
    source = times(100, f"mov al, [rbx]; add rbx, {step};")
    hits = found(source)
    assert (hits["memory"], hits["prefetched"]) == (2, 98)
    assert cycles(source) == 2 * MEMORY + 98 * PREFETCHED


def test_a_stream_out_of_a_cache_is_fetched_ahead_in_no_time() -> None:
    once = f"mov rbx, 0x200000; mov ecx, {2 * KB // LINE}; 1: mov al, [rbx]; add rbx, 64; dec ecx; jnz 1b; "
    hits = found(times(1, "") + once.replace("1", "1") + once.replace("1:", "2:").replace("1b", "2b"))
    assert hits["l2"] <= 3 and hits["memory"] == 2
    assert hits["prefetched"] >= 2 * (2 * KB // LINE) - 6


def test_many_streams_at_once_are_told_apart() -> None:
    four = "".join(f"mov al, [rbx + {n * 0x10000}]; " for n in range(4))
    hits = found(times(50, four + "add rbx, 64;"))
    assert hits["memory"] == 4 * 2


def test_every_other_line_is_no_stream() -> None:
    assert found(times(50, "mov al, [rbx]; add rbx, 128;"))["prefetched"] == 0


# --- invalidation -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("flush", ["clflush [rbx]", "wbinvd"])
def test_what_is_flushed_is_missed_again(flush: str) -> None:
    assert places(reads(0) + flush + "; " + reads(0))[3] == 2
    assert places(reads(0, 64 * 8) + flush + "; " + reads(64 * 8))[3] == (3 if flush == "wbinvd" else 2)


def test_invd_empties_the_caches() -> None:
    vcpu = guest(reads(0) + "invd; " + reads(0))
    vcpu.set_handler(ExitReason.INVD, lambda vcpu, exit: None)
    vcpu.run(cycles=100_000)
    hits = vcpu.cache_hits()
    assert hits is not None and hits["memory"] == 2


def test_a_reset_empties_the_caches() -> None:
    source = reads(0)
    vcpu = guest(source)
    vcpu.run(cycles=100_000)
    state = guest(source)
    vcpu.reset()
    vcpu.cr4, vcpu.efer, vcpu.cr3, vcpu.cr0 = state.cr4, state.efer, state.cr3, state.cr0
    vcpu.set_segment("cs", *state.segment("cs"))
    vcpu.rip, vcpu.rbx = CODE, 0x200000
    vcpu.run(cycles=100_000)
    hits = vcpu.cache_hits()
    assert hits is not None and hits["memory"] == 2


# --- page walks -------------------------------------------------------------------------------------------------------------
def test_page_walks_read_by_way_of_the_second_level() -> None:
    hits = found(reads(0))
    walked = sum(count for name, count in hits.items() if name.startswith("walk_"))
    assert walked >= 3 and hits["walk_memory"] >= 3
    again = found(reads(0) + "mov rax, cr3; mov cr3, rax; " + reads(0))
    assert again["walk_l2"] >= 3, "the tables are in L2 now"


# --- however a run is cut -----------------------------------------------------------------------------------------------------
def cut_guest(source: str, paging: str, after: int | None) -> CutGuest:
    return CutGuest(source, paging, after, profile=PROFILE)


@pytest.mark.parametrize("name", PIECES)
def test_steps_slices_and_translated_code_are_the_whole_run(name: str) -> None:
    timer = 4 if name == "HLT" else None
    source = program([name], timer)
    for paging in ("ept", "shadow"):
        whole = run_whole(cut_guest(source, paging, None))
        assert whole["caches"] is not None
        for after in (None, 0):
            for way, parts in (("steps", steps()), ("run(1)", ones()), ("a mixture", mixture(0))):
                different = differences(whole, run_in_parts(cut_guest(source, paging, after), parts))
                different.pop("blocks_translated", None)
                assert not different, f"{name}, {paging}, translate_after={after}, whole and {way}: {different}"


def test_pieces_in_any_order_can_be_cut_anywhere() -> None:
    for seed, (names, timer) in enumerate(random_programs(range(12), 6)):
        source, paging = program(names, timer), ("ept", "shadow")[seed % 2]
        whole = run_whole(cut_guest(source, paging, None))
        for parts in (steps(), mixture(seed), mixture(-seed - 1)):
            different = differences(whole, run_in_parts(cut_guest(source, paging, (None, 0, 3)[seed % 3]), parts))
            different.pop("blocks_translated", None)
            assert not different, f"program {seed} of {names}, timer {timer}: {different}"


@pytest.mark.parametrize("bits", [64, 32, 16])
def test_translated_code_takes_the_cycles_of_interpreted_code(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_guest, "PROFILE", PROFILE)
    Comparison(bits, lambda number: at_once, lambda number: at_once).run(range(60))
    Comparison(bits, in_slices, lambda number: at_once).run(range(60, 90))


def test_what_the_host_forgets_makes_no_difference() -> None:
    source = program(["stores", "REP MOVS over page borders", "calls", "page faults"], 4)
    whole = run_whole(cut_guest(source, "ept", None))
    forgetful = cut_guest(source, "ept", 0)

    def parts() -> Any:
        while True:
            forgetful.machine.cpu.forget_translations()
            yield 7

    different = differences(whole, run_in_parts(forgetful, parts()))
    assert different.keys() <= set(OF_THE_HOST)


# --- what cannot be ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("levels", "others"),
    [
        ((L1, L2), {}), ((L1, L2, (1000, 4, 10)), {}), ((L1, L3, L2), {}), ((L1, L2, (0, 4, 10)), {}), ((L1, L2, (KB, 0, 10)), {}),
        ((L1, L2, L3), {"line": 48}), ((L1, L2, L3), {"line": 8192}), ((L1, L2, L3), {"memory": 5}),
        ((L1, L2, L3), {"overlapping_stores": 0}), (((1 << 40, 2, 0), L2, L3), {}),
    ],
)  # fmt: skip
def test_caches_that_cannot_be_are_refused(levels: Any, others: dict[str, int]) -> None:
    vcpu = Vcpu(1 << 20)
    with pytest.raises(ValueError):
        vcpu.set_caches(levels, **(SMALL | others))
    assert vcpu.cache_hits() is None
