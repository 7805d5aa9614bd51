"""What the profile's TLBs hold costs no guest time, and what they do not costs what it says: whatever the host has kept."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

import pytest

from hvmx.core.vcpu import Vcpu
from hvmx.cost.profile import FRACTION
from hvmx.vocabulary import Control, ExitReason

from .machine import assemble

CODE, PML4, PDPT, PD, PTS = 0x8000, 0x10000, 0x11000, 0x12000, 0x100000
PRESENT, WRITABLE, DIRTY_PAGE, LARGE, GLOBAL = 0x1, 0x2, 0x60, 0x80, 0x100
GIB, MIB2, PAGE = 1 << 30, 1 << 21, 1 << 12
RAM = 64 << 20
REFERENCE, SECOND_HIT = 50, 9
"""Guest cycles."""

Tlb = dict[str, Any]
NO_CACHES: Tlb = dict.fromkeys(("pml4_entries", "pdpt_entries", "pd_entries", "nested_entries"), 0)


def reads(*addresses: int) -> str:
    return "".join(f"mov al, [{address:#x}]; " for address in addresses)


def times(count: int, source: str) -> str:
    return f"mov ecx, {count}; 1: {source} dec ecx; jnz 1b; "


def guest(
    source: str, *, nested: bool = False, shadow: bool = False, large: tuple[int, ...] = (), is_global: bool = False, **tlb: Any
) -> Vcpu:
    """In 64-bit mode, with all RAM mapped where it is: in pages of 4 KiB, or of 2 MiB where `large` says so."""
    vcpu = Vcpu(RAM)
    vcpu.set_tlb(**tlb)
    vcpu.set_costs({}, {}, walk_reference=REFERENCE * FRACTION)
    flags = PRESENT | WRITABLE | DIRTY_PAGE | GLOBAL * is_global
    vcpu.write(PML4, struct.pack("<Q", PDPT | PRESENT | WRITABLE))
    vcpu.write(PDPT, struct.pack("<Q", PD | PRESENT | WRITABLE))
    for number in range(RAM // MIB2):
        table = PTS + number * PAGE
        entry = number * MIB2 | flags | LARGE if number * MIB2 in large else table | PRESENT | WRITABLE
        vcpu.write(PD + 8 * number, struct.pack("<Q", entry))
        vcpu.write(table, struct.pack("<512Q", *(number * MIB2 + n * PAGE | flags for n in range(512))))
    vcpu.set_segment("cs", 8, 0, 0xFFFFFFFF, 0xA09B)
    vcpu.cr3, vcpu.cr4, vcpu.efer, vcpu.cr0 = PML4, 0xA0, 0xD00, 0x80010011
    vcpu.controls = Control.EPT * nested | (Control.SHADOW_PAGING | Control.CR3_LOAD | Control.INVLPG) * shadow
    for reason in (ExitReason.EPT_VIOLATION, ExitReason.TRIPLE_FAULT, ExitReason.INVLPG, ExitReason.INVPCID,
                   ExitReason.CR_ACCESS, ExitReason.EXCEPTION_NMI):  # fmt: skip
        vcpu.set_handler(reason, lambda vcpu, exit: None)
    vcpu.write(CODE, assemble(64, [source.replace(";", "\n") + "\nhlt"])[0])
    vcpu.rip, vcpu.rsp = CODE, 0x7000
    return vcpu


def counts(vcpu: Vcpu) -> tuple[int, int, int]:
    """After it has halted: misses, hits of the second level, references to page tables; without those of the code."""
    vcpu.run(cycles=10_000_000)
    assert vcpu.halted or vcpu.rip > CODE
    found = vcpu.counters()
    code = 24 if vcpu.controls & Control.EPT else 4
    return found["tlb_misses"] - 1, found["tlb_second_hits"], found["walk_references"] - code


def cycles(source: str, **setup: Any) -> int:
    vcpu = guest(source, **setup)
    vcpu.run(cycles=100_000_000)
    return vcpu.cycles


# --- sizes, sets and ways -------------------------------------------------------------------------------------------------
def test_two_pages_2_mib_apart_stay_both() -> None:
    assert counts(guest(times(1000, reads(0x400000, 0x600000))))[:2] == (2, 0)


def test_a_thousand_reads_of_two_bytes_in_two_large_pages_miss_twice() -> None:
    large = (0x400000, 0x600000)
    assert counts(guest(times(1000, reads(0x412345, 0x612345)), large=large))[:2] == (2, 0)


def test_a_large_page_is_one_entry_wherever_it_is_read() -> None:
    source = "mov rbx, 0x400000; mov ecx, 512; 1: mov al, [rbx]; add rbx, 4096; dec ecx; jnz 1b;"
    assert counts(guest(source, large=(0x400000,)))[0] == 1
    assert counts(guest(source))[0] == 512


def test_without_entries_for_large_pages_they_are_held_in_pieces() -> None:
    source = reads(0x400000, 0x401000, 0x400000, 0x401000)
    assert counts(guest(source, large=(0x400000,), data_2m=(0, 0), second_2m=(0, 0)))[:2] == (2, 0)
    # The second level has the whole page, of which the first takes pieces.
    assert counts(guest(source, large=(0x400000,), data_2m=(0, 0)))[:2] == (1, 1)


@pytest.mark.parametrize(("pages", "hits"), [(4, 0), (5, 5 * 100 - 5)])
def test_as_many_pages_as_ways_stay_in_a_set_and_one_more_evicts_all(pages: int, hits: int) -> None:
    """Replacement in the order of fills: what is read next has always just gone."""
    source = times(100, reads(*(0x400000 + n * 16 * PAGE for n in range(pages))))
    assert counts(guest(source, data_4k=(64, 4)))[:2] == (pages, hits)


def test_without_a_second_level_what_the_first_evicts_is_walked_for() -> None:
    source = times(100, reads(*(0x400000 + n * 16 * PAGE for n in range(5))))
    assert counts(guest(source, second_4k=(0, 0), second_2m=(0, 0), second_1g=(0, 0)))[:2] == (500, 0)


def test_a_hit_of_the_second_level_costs_its_latency() -> None:
    five = times(100, reads(*(0x400000 + n * 16 * PAGE for n in range(5))))
    wider = cycles(five, data_4k=(128, 8), second_hit=SECOND_HIT * FRACTION)
    assert cycles(five, second_hit=SECOND_HIT * FRACTION) - wider == 495 * SECOND_HIT


@pytest.mark.parametrize(("entries", "hits"), [(8, 0), (4, 49 * 6)])
def test_code_has_a_first_level_of_its_own(entries: int, hits: int) -> None:
    calls = "".join(f"mov eax, {0x400000 + n * PAGE:#x}; call rax; " for n in range(5))
    vcpu = guest(times(50, calls) + reads(CODE), code_4k=(entries, entries))
    for n in range(5):
        vcpu.write(0x400000 + n * PAGE, b"\xc3")
    vcpu.run(cycles=100_000)
    found = vcpu.counters()
    assert found["tlb_misses"] == 6 + 1  # six pages of code, and the stack
    # The first level for data has not the page of the code, which the second has.
    assert found["tlb_second_hits"] >= hits + 1 and (hits or found["tlb_second_hits"] == 1)


# --- walks ------------------------------------------------------------------------------------------------------------------
def test_a_walk_reads_only_what_no_paging_structure_cache_has() -> None:
    assert counts(guest(reads(0x9000)))[2] == 1            # the same page table as the code's
    assert counts(guest(reads(0x400000)))[2] == 2          # the same page directory
    assert counts(guest(reads(0x9000), **NO_CACHES))[2] == 4
    assert counts(guest(reads(0x400000, 0x401000)))[2] == 2 + 1
    assert counts(guest(reads(0x400000, 0x600000, 0x401000), pd_entries=1))[2] == 2 + 2 + 2


def test_a_nested_walk_reads_only_what_no_cache_has() -> None:
    assert counts(guest(reads(0x9000), nested=True, **NO_CACHES))[2] == 24
    vcpu = guest(reads(0x9000), nested=True)
    vcpu.run(cycles=100_000)
    # The code's: a nested walk of 4 for the first table, of 1 each for the others and the page, which are in its 2 MiB.
    code = (4 + 1) + (1 + 1) + (1 + 1) + (1 + 1) + 1
    # Where the page table is in the host's memory is known: its entry, and the nested one of the page that it names.
    assert vcpu.counters()["walk_references"] == code + 1 + 1
    again = guest(reads(0x9000) + "invlpg [0x9000]; " + reads(0x9000), nested=True)
    again.run(cycles=100_000)
    # The tables are walked for again; where they and the page are in the host's memory is known.
    assert again.counters()["walk_references"] == code + 1 + 1 + 4


def test_the_dirty_bit_takes_a_walk_and_is_no_miss() -> None:
    vcpu = guest("mov al, [0x9000]; mov [0x9000], al; mov [0x9001], al;")
    entry = PTS + 8 * (0x9000 >> 12)
    vcpu.write(entry, struct.pack("<Q", 0x9000 | PRESENT | WRITABLE))
    assert counts(vcpu) == (1, 0, 2)
    assert struct.unpack("<Q", vcpu.read(entry, 8))[0] & DIRTY_PAGE == DIRTY_PAGE


# --- invalidation -----------------------------------------------------------------------------------------------------------
RELOAD = "mov rax, cr3; mov cr3, rax; "
BITS_63 = "bts rax, 63; "
WITH_PCIDS = "mov rax, cr4; bts rax, 17; mov cr4, rax; "


def test_a_load_of_cr3_keeps_global_pages_only() -> None:
    source = reads(0x400000) + RELOAD + reads(0x400000)
    assert counts(guest(source))[0] == 1 + 2               # with the page of the code
    assert counts(guest(source, is_global=True))[0] == 1


def test_invlpg_drops_the_page_and_all_of_the_paging_structure_caches() -> None:
    source = reads(0x400000, 0x401000) + "invlpg [0x400000]; " + reads(0x400000, 0x401000)
    assert counts(guest(source)) == (3, 0, 2 + 1 + 4)
    source = reads(0x400000) + "invlpg [0x5ff000]; " + reads(0x401000)
    assert counts(guest(source, large=(0x400000,)))[0] == 2


@pytest.mark.parametrize("setup", [{}, {"nested": True}, {"shadow": True}, {"data_2m": (0, 0), "second_2m": (0, 0)}], ids=str)
def test_invlpg_of_any_part_of_a_large_page_invalidates_all_pieces_of_it(setup: Tlb) -> None:
    """The page moves from 4 to 6 MiB: a byte of it that was read before is the new page's."""
    entry = PD + 8 * (0x400000 // MIB2)
    source = (
        reads(0x400000, 0x455000, 0x400000)
        + f"mov qword ptr [{entry:#x}], {0x600000 | PRESENT | WRITABLE | DIRTY_PAGE | LARGE:#x}; "
        + "invlpg [0x400000]; mov bl, [0x455000]; "
    )
    vcpu = guest(source, large=(0x400000,), **setup)
    vcpu.write(0x655000, b"\x77")
    vcpu.run(cycles=10_000_000)
    assert vcpu.rbx & 0xFF == 0x77


def test_a_page_fault_drops_what_was_known_of_the_page() -> None:
    vcpu = guest("mov al, [0x9000]; mov [0x9000], al; mov al, [0x9000];")
    vcpu.write(PTS + 8 * 9, struct.pack("<Q", 0x9000 | PRESENT))
    vcpu.exception_bitmap = 1 << 14

    def skip(vcpu: Vcpu, exit: object) -> None:
        vcpu.rip += 7

    vcpu.set_handler(ExitReason.EXCEPTION_NMI, skip)
    assert counts(vcpu)[0] == 2


def switch(pcid: int, keep: bool) -> str:
    return f"mov eax, {PML4 + pcid:#x}; {BITS_63 * keep} mov cr3, rax; "


def test_pcids_keep_what_belongs_to_others() -> None:
    there_and_back = switch(1, True) + reads(0x401000) + switch(0, True)
    source = WITH_PCIDS + reads(0x400000) + there_and_back + reads(0x400000)
    assert counts(guest(source))[:2] == (3, 0)             # the page, with PCID 1 another, and the code's with PCID 1
    source = WITH_PCIDS + reads(0x400000) + there_and_back.replace(switch(0, True), switch(0, False)) + reads(0x400000)
    assert counts(guest(source))[:2] == (5, 0)


def invpcid(kind: int, pcid: int, address: int) -> str:
    return (f"mov qword ptr [0x6000], {pcid}; mov rax, {address:#x}; mov [0x6008], rax; mov eax, {kind}; "
            "invpcid rax, [0x6000]; ")


@pytest.mark.parametrize(
    ("kind", "pcid", "address", "is_global", "missed_again"),
    [
        (0, 1, 0x400000, False, 1), (0, 1, 0x402000, False, 0), (0, 0, 0x400000, False, 0), (0, 1, 0x400000, True, 0),
        (1, 1, 0, False, 3), (1, 0, 0, False, 0), (1, 1, 0, True, 0),
        (2, 0, 0, False, 3), (2, 0, 0, True, 3), (3, 0, 0, False, 3), (3, 0, 0, True, 0),
    ],
)  # fmt: skip
def test_invpcid_invalidates_by_its_type(kind: int, pcid: int, address: int, is_global: bool, missed_again: int) -> None:
    """Of the page of the code, the stack's with the descriptor, and the one that is read."""
    before = WITH_PCIDS + switch(1, True) + reads(0x400000)
    quiet = invpcid(0, 5, 0x800000)
    misses = counts(guest(before + quiet + invpcid(kind, pcid, address) + reads(0x400000, 0x6000), is_global=is_global))[0]
    assert misses - counts(guest(before + quiet + quiet + reads(0x400000, 0x6000), is_global=is_global))[0] == missed_again


@pytest.mark.parametrize(
    ("kind", "pcid", "address", "pcids"),
    [(4, 0, 0, True), (0, 0x1000, 0, True), (0, 0, 1 << 47, True), (0, 1, 0, False), (1, 1, 0, False), (1 << 32, 0, 0, True)],
)
def test_invpcid_refuses_what_it_has_no_type_or_pcid_for(kind: int, pcid: int, address: int, pcids: bool) -> None:
    vcpu = guest(WITH_PCIDS * pcids + invpcid(kind, pcid, address).replace(f"mov eax, {kind}", f"mov rax, {kind}"))
    vcpu.exception_bitmap = 1 << 13
    seen = []

    def end(vcpu: Vcpu, exit: Any) -> None:
        seen.append(exit.vector)
        vcpu.stop()

    vcpu.set_handler(ExitReason.EXCEPTION_NMI, end)
    vcpu.run(cycles=100_000)
    assert seen == [13]


@pytest.mark.parametrize(
    "source",
    [
        switch(5, False) + WITH_PCIDS,                                     # CR3 has other bits there
        "mov rax, cr3; bts rax, 63; mov cr3, rax;",                        # without PCIDs, bit 63 is reserved
    ],
)
def test_pcids_need_the_state_that_the_manual_says(source: str) -> None:
    vcpu = guest(source)
    vcpu.exception_bitmap = 1 << 13
    seen = []

    def end(vcpu: Vcpu, exit: Any) -> None:
        seen.append(exit.vector)
        vcpu.stop()

    vcpu.set_handler(ExitReason.EXCEPTION_NMI, end)
    vcpu.run(cycles=100_000)
    assert seen == [13]


def test_invpcid_exits_as_invlpg_does() -> None:
    vcpu = guest(invpcid(1, 0, 0))
    vcpu.controls = Control.INVLPG
    seen: list[tuple[int, int]] = []
    vcpu.set_handler(ExitReason.INVPCID, lambda vcpu, exit: seen.append((exit.reason, exit.qualification)))
    vcpu.run(cycles=100_000)
    assert seen == [(ExitReason.INVPCID, 0x6000)]


# --- the host's software TLB makes no difference ------------------------------------------------------------------------------
SMALL: Tlb = {"data_4k": (8, 2), "data_2m": (2, 1), "code_4k": (4, 1), "code_2m": (1, 1), "second_4k": (32, 4),
              "pd_entries": 2, "pdpt_entries": 1, "pml4_entries": 1, "nested_entries": 2}  # fmt: skip


def wanderer(seed: int) -> tuple[str, dict[int, bytes]]:
    """A program that reads, writes, copies, flushes, and calls functions in other pages, some of which end in the next."""
    rng = random.Random(seed)
    routines = {0x500000 + n * PAGE + rng.choice((0, 0x7F0, 0xFFE)): b"\x48\xff\xc3\xff\x05\x0a\x00\x00\x00\xc3" for n in range(0, 24, 2)}
    lines = []
    for _ in range(300):
        at = rng.choice((0x400000, 0x600000, 0x800000)) + rng.randrange(64) * PAGE + rng.randrange(0xFF0)
        lines.append(rng.choice((
            f"mov al, [{at:#x}]", f"mov [{at:#x}], rax", f"add [{at:#x}], ebx", f"push [{at:#x}]; pop rdx",
            f"mov esi, {at:#x}; mov edi, {at ^ 0x35800:#x}; mov ecx, {rng.randrange(1, 700)}; rep movsb",
            f"or qword ptr [{PTS + PAGE * (at >> 21) + 8 * (at >> 12 & 511):#x}], 0",
            *[f"mov eax, {rng.choice(list(routines)):#x}; call rax"] * 4,
        )))  # fmt: skip
    lines.append("invlpg [0x601000]")
    body = "; ".join(lines)
    return f"mov r15d, 12; 2: {body}; mov rax, cr3; test r15b, 3; jnz 3f; mov cr3, rax; 3: dec r15d; jnz 2b;", routines


COMPARED = ("instructions", "tlb_misses", "tlb_second_hits", "walk_references", "shadow_faults")


def run_of(seed: int, drive: Callable[[Vcpu], None], translate_after: int | None = None, **setup: Any) -> dict[str, Any]:
    source, routines = wanderer(seed)
    vcpu = guest(source, large=(0x600000,), **setup, **SMALL)
    vcpu.translate_after = translate_after
    for at, code in routines.items():
        vcpu.write(at, code)
    drive(vcpu)
    found = vcpu.counters()
    registers = {"cycles": vcpu.cycles, "rip": vcpu.rip, "rbx": vcpu.rbx}
    return registers | {name: found[name] for name in COMPARED}


def whole(vcpu: Vcpu) -> None:
    vcpu.run(cycles=1 << 40)


def stepped(vcpu: Vcpu) -> None:
    while not vcpu.halted:
        vcpu.step()


def forgetting(seed: int) -> Callable[[Vcpu], None]:
    def drive(vcpu: Vcpu) -> None:
        rng = random.Random(seed)
        while not vcpu.halted:
            vcpu.run(cycles=rng.choice((1, 20, 300, 3000)))
            if rng.random() < 0.7:
                vcpu.forget_translations()

    return drive


@pytest.mark.parametrize("paging", ["native", "nested", "shadow"])
@pytest.mark.parametrize("seed", range(4))
def test_cycles_do_not_depend_on_what_the_host_has_kept(seed: int, paging: str) -> None:
    setup = {} if paging == "native" else {paging: True}
    expected = run_of(seed, whole, **setup)
    assert expected["tlb_misses"] > 1000 and expected["tlb_second_hits"] > 100
    assert (expected["shadow_faults"] > 50) == (paging == "shadow")
    for translate_after in (None, 0):
        for drive in (whole, stepped, *map(forgetting, range(3))):
            assert run_of(seed, drive, translate_after, **setup) == expected


@pytest.mark.parametrize(
    "sizes",
    [{"data_4k": (0, 0)}, {"data_4k": (6, 4)}, {"code_4k": "shared"}, {"pd_entries": -1}, {"second_4k": (4, 0)}, {"data_2m": (1 << 20, 1)}],
)  # fmt: skip
def test_sizes_that_no_tlb_has_are_refused(sizes: Tlb) -> None:
    with pytest.raises(ValueError):
        Vcpu(1 << 20).set_tlb(**sizes)
