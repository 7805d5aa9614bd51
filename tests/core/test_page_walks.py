"""What a TLB miss costs: the references to page tables that a processor makes, natively and with nested paging."""

from __future__ import annotations

import struct

import pytest

from hvmx.core.exit_info import Exit
from hvmx.core.vcpu import Vcpu
from hvmx.cost import FRACTION
from hvmx.vocabulary import Control, ExitReason

PAGE_FAULT = 14
CODE, PML4, PDPT, PD, PT = 0x8000, 0x10000, 0x11000, 0x12000, 0x13000
PRESENT, READ_WRITE, LARGE = 0x1, 0x3, 0x83
MAPPED, READ_ONLY, ABSENT = 0x9000, 0xA000, 0xB000  # pages of 4 KiB
LARGE_PAGE, NO_TABLE, NO_PML4_ENTRY = 0x200000, 0x400000, 1 << 39
CODE_WALK = {False: 4, True: 24}
NO_WALK_CACHES = dict.fromkeys(("pml4_entries", "pdpt_entries", "pd_entries", "nested_entries"), 0)


def processor(nested: bool) -> Vcpu:
    """In 64-bit mode, with its code in a page of 4 KiB; a page fault ends at the HLT that is last. No paging-structure
    caches shorten its walks."""
    vcpu = Vcpu(4 << 20)
    vcpu.set_tlb(**NO_WALK_CACHES)
    for at, value in (
        (PML4, PDPT | READ_WRITE), (PDPT, PD | READ_WRITE), (PD, PT | READ_WRITE), (PD + 8, LARGE_PAGE | LARGE),
        (PT + (CODE >> 9), CODE | READ_WRITE), (PT + (MAPPED >> 9), MAPPED | READ_WRITE), (PT + (READ_ONLY >> 9), READ_ONLY | PRESENT),
    ):  # fmt: skip
        vcpu.write(at, struct.pack("<Q", value))
    vcpu.set_segment("cs", 8, 0, 0xFFFFFFFF, 0xA09B)
    vcpu.cr3, vcpu.cr4, vcpu.efer, vcpu.cr0 = PML4, 0x20, 0xD00, 0x80010011
    vcpu.controls = Control.EPT if nested else 0
    vcpu.set_handler(ExitReason.EPT_VIOLATION, lambda vcpu, exit: None)
    vcpu.exception_bitmap = 1 << PAGE_FAULT

    def skip(vcpu: Vcpu, exit: Exit) -> None:
        vcpu.rip = CODE + 2

    vcpu.set_handler(ExitReason.EXCEPTION_NMI, skip)
    vcpu.rip = CODE
    return vcpu


@pytest.mark.parametrize("nested", [False, True], ids=["native", "nested"])
@pytest.mark.parametrize(
    ("address", "write", "references"),
    [
        (MAPPED, False, (4, 24)),
        (MAPPED, True, (4, 24)),
        (LARGE_PAGE, False, (3, 19)),
        # A walk that faults has found no page: there is nothing more for nested paging to translate.
        (NO_PML4_ENTRY, False, (1, 5)),
        (NO_TABLE, False, (3, 15)),
        (ABSENT, False, (4, 20)),
        (READ_ONLY, True, (4, 20)),
    ],
)
def test_a_tlb_miss_makes_the_references_of_its_walk(
    address: int, write: bool, references: tuple[int, int], nested: bool
) -> None:
    vcpu = processor(nested)
    vcpu.write(CODE, bytes.fromhex("89 03 f4" if write else "8b 03 f4"))  # mov [rbx], eax or mov eax, [rbx]; hlt
    vcpu.rbx = address
    vcpu.run(cycles=1000)
    assert vcpu.rip == CODE + 3
    counts = vcpu.counters()
    assert counts["tlb_misses"] == 2
    assert counts["walk_references"] == CODE_WALK[nested] + references[nested]


@pytest.mark.parametrize(("nested", "references"), [(False, 0), (True, 4)], ids=["native", "nested"])
def test_without_paging_only_nested_paging_makes_references(nested: bool, references: int) -> None:
    vcpu = processor(nested)
    vcpu.cr0, vcpu.efer = 0x11, 0
    vcpu.set_segment("cs", 8, 0, 0xFFFFFFFF, 0xC09B)
    vcpu.write(CODE, b"\xf4")
    vcpu.run(cycles=1000)
    assert vcpu.counters()["walk_references"] == references


def test_the_references_are_what_a_miss_costs() -> None:
    vcpu = processor(True)
    vcpu.set_costs({}, {}, walk_reference=10 * FRACTION)
    vcpu.write(CODE, b"\xf4")
    vcpu.run(cycles=1000)
    assert 24 * 10 <= vcpu.cycles < 24 * 10 + 2
