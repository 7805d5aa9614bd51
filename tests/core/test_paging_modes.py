"""Guests that change their paging mode: what was remembered of the old one is not taken for the new one's."""

from __future__ import annotations

import struct

import pytest

from hvmx import Machine
from hvmx.machine import StopKind

from .machine import CODE, assemble

MEMORY = 2 << 20
DIRECTORY, TABLE, CODE_TABLE, POINTERS, DIRECTORY_8 = 0x10000, 0x11000, 0x12000, 0x13000, 0x14000
LAST_PAGE = MEMORY - 0x1000
PRESENT_WRITABLE, PRESENT = 3, 1
LINE_20 = 1 << 20
PAGING_ON, PAGING_OFF = "mov eax, 0x80000011; mov cr0, eax;", "mov eax, 0x11; mov cr0, eax;"
PAE_ON = "mov eax, 0x20; mov cr4, eax;"


def load_cr3(place: int) -> str:
    return f"mov eax, {place:#x}; mov cr3, eax;"


def guest(source: str, entries: dict[int, int], *, a20: bool = True) -> Machine:
    """A 32-bit guest under shadow paging, before ``source``, with words of memory by guest-physical address."""
    machine = Machine(MEMORY, paging="shadow", board=False)
    machine.load(assemble(32, [source + "hlt"])[0], load_address=CODE, bits=32)
    for place, entry in entries.items():
        machine.cpu.write(place, struct.pack("<I", entry))
    machine.cpu.a20 = a20
    return machine


def shadow_faults(machine: Machine) -> int:
    """Those that a guest takes on its way to HLT."""
    stop = machine.run(cycles=10_000_000)
    assert stop.kind is StopKind.HALTED, f"the guest ended by {stop}"
    return machine.statistics()["shadow_faults"]


@pytest.mark.parametrize(
    ("directory", "index"), [(DIRECTORY, 5), (LAST_PAGE, 1023)], ids=["in RAM", "at the end of RAM"]
)
def test_a_page_table_is_found_by_the_entry_that_led_to_it_whatever_mode_the_guest_is_in_now(
    directory: int, index: int
) -> None:
    """A page table that is referred to is never taken for a page of data: the first write after each flush exits."""
    entries = {
        directory: CODE_TABLE | PRESENT_WRITABLE,
        CODE_TABLE + (CODE >> 10): CODE | PRESENT_WRITABLE,
        directory + 4 * index: TABLE | PRESENT_WRITABLE,
        TABLE: 0x5000 | PRESENT_WRITABLE,
    }
    if index < 1023:
        entries[directory + 4 * index + 4] = 0x7000 | PRESENT_WRITABLE
    fill = load_cr3(directory) + PAGING_ON + f"mov ebx, [{index << 22:#x}];" + PAGING_OFF + PAE_ON
    writes = 6
    write_and_flush = f"mov [{TABLE + 8:#x}], ebx;" + load_cr3(directory)
    before = shadow_faults(guest(fill, entries))
    after = shadow_faults(guest(fill + write_and_flush * writes, entries))
    assert after - before == writes, "the page was taken for one that no entry refers to"


def test_entries_of_another_size_are_filled_anew() -> None:
    """One page is the page table of two-level paging and then of PAE paging."""
    entries = {
        DIRECTORY: TABLE | PRESENT_WRITABLE,
        POINTERS: DIRECTORY_8 | PRESENT,
        DIRECTORY_8: TABLE | PRESENT_WRITABLE,
        TABLE: 0x5000 | PRESENT_WRITABLE,
        TABLE + 8: 0x6000 | PRESENT_WRITABLE,  # linear 0x2000 of the one, 0x1000 of the other
        TABLE + (CODE >> 10): CODE | PRESENT_WRITABLE,
        TABLE + (CODE >> 9): CODE | PRESENT_WRITABLE,
    }
    two_level = load_cr3(DIRECTORY) + PAGING_ON + "mov ebx, [0x2000];" + PAGING_OFF
    pae = PAE_ON + load_cr3(POINTERS) + PAGING_ON + "mov ebx, [0];"
    before = shadow_faults(guest(two_level + pae, entries))
    after = shadow_faults(guest(two_level + pae + "mov ebx, [0x1000];", entries))
    assert after - before == 1, "an entry that was filled in the other mode passed for one of this"


def test_page_tables_behind_the_a20_gate_are_watched_where_they_are() -> None:
    """Address line 20 is 0: the walk reads the tables a megabyte below, and a write there is one to a page table."""
    entries = {
        DIRECTORY: CODE_TABLE | LINE_20 | PRESENT_WRITABLE,
        CODE_TABLE + (CODE >> 10): CODE | PRESENT_WRITABLE,
        CODE_TABLE + (CODE_TABLE >> 10): CODE_TABLE | PRESENT_WRITABLE,
    }
    fill = load_cr3(DIRECTORY | LINE_20) + PAGING_ON + f"mov ebx, [{CODE_TABLE:#x}]; mov ecx, 4; "
    write = f"1: mov [{CODE_TABLE:#x}], ebx; dec ecx; jnz 1b;"
    before = shadow_faults(guest(fill, entries, a20=False))
    after = shadow_faults(guest(fill + write, entries, a20=False))
    assert after - before == 2, "the first store fills the page's own entry, and is seen; then the table is out of sync"


def test_page_directory_pointers_are_loaded_from_behind_the_a20_gate() -> None:
    entries = {
        POINTERS: DIRECTORY_8 | PRESENT,
        DIRECTORY_8: CODE_TABLE | PRESENT_WRITABLE,
        CODE_TABLE + (CODE >> 9): CODE | PRESENT_WRITABLE,
    }
    machine = guest(PAE_ON + load_cr3(POINTERS | LINE_20) + PAGING_ON + "nop;", entries, a20=False)
    shadow_faults(machine)
    assert machine.cpu.translate(CODE | LINE_20) is None
    assert machine.cpu.translate(CODE) == CODE


ENTRIES = 256
SECOND_TABLE = 0x400000
"""The linear address from which on TABLE maps pages."""


def many_entries(*, flush_each: bool) -> Machine:
    """Writes 256 entries of a page table in use, and touches each page once: after one flush, or after one for each."""
    entries = {
        DIRECTORY: CODE_TABLE | PRESENT_WRITABLE,
        DIRECTORY + 4: TABLE | PRESENT_WRITABLE,
        CODE_TABLE + (CODE >> 10): CODE | PRESENT_WRITABLE,
        CODE_TABLE + (TABLE >> 10): TABLE | PRESENT_WRITABLE,
        TABLE + 4 * 1023: 0x5000 | PRESENT_WRITABLE,
    }
    reload = load_cr3(DIRECTORY)
    use = f"mov ebx, [{SECOND_TABLE + (1023 << 12):#x}]; mov ebx, [{TABLE:#x}];"
    write = f"mov dword ptr [{TABLE:#x} + ecx * 4], {0x5000 | PRESENT_WRITABLE:#x};"
    find = f"mov ebx, ecx; shl ebx, 12; add ebx, {SECOND_TABLE:#x};"
    if flush_each:
        rounds = f"1: {write} {find} invlpg [ebx]; mov ebx, [ebx]; inc ecx; cmp ecx, {ENTRIES}; jne 1b;"
    else:
        rounds = (
            f"1: {write} inc ecx; cmp ecx, {ENTRIES}; jne 1b; {reload} xor ecx, ecx;"
            f"2: {find} mov ebx, [ebx]; inc ecx; cmp ecx, {ENTRIES}; jne 2b;"
        )
    return guest(reload + PAGING_ON + use + "xor ecx, ecx;" + rounds, entries)


def test_entries_that_are_written_before_one_flush_cause_an_exit_each_when_they_are_used() -> None:
    before = 4  # code, the table's own page, its last entry, and its own page for writes
    assert shadow_faults(many_entries(flush_each=False)) - before == 1 + ENTRIES


def test_an_entry_that_is_written_after_a_flush_causes_an_exit_more() -> None:
    before = 4
    assert shadow_faults(many_entries(flush_each=True)) - before == 2 * ENTRIES


def test_what_a_table_out_of_sync_maps_is_found_anew_after_the_flush() -> None:
    """The entry names another page: what was mirrored of it is not used any more, and what was not changed is."""
    entries = {
        DIRECTORY: CODE_TABLE | PRESENT_WRITABLE,
        CODE_TABLE + (CODE >> 10): CODE | PRESENT_WRITABLE,
        CODE_TABLE + (CODE_TABLE >> 10): CODE_TABLE | PRESENT_WRITABLE,
        CODE_TABLE + 4: 0x5000 | PRESENT_WRITABLE,
        CODE_TABLE + 8: 0x5000 | PRESENT_WRITABLE,
        0x5000: 0x55,
        0x6000: 0x66,
    }
    use = load_cr3(DIRECTORY) + PAGING_ON + "mov ebx, [0x1000]; mov ebx, [0x2000];"
    change = f"mov dword ptr [{CODE_TABLE + 4:#x}], {0x6000 | PRESENT_WRITABLE:#x};"
    machine = guest(use + change + load_cr3(DIRECTORY) + "mov ebx, [0x1000]; mov edx, [0x2000];", entries)
    after = shadow_faults(machine)
    assert (machine.cpu.ebx, machine.cpu.edx) == (0x66, 0x55)
    # The change: its own page's entry and the write; then the page that is another one. The table's other entries stay.
    assert after - shadow_faults(guest(use, entries)) == 3
