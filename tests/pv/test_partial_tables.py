"""Trees of page tables whose validation takes more than one part: what the guest sees of them between the parts, and after.

The limit of work is set so low that every table above level 1 is left and taken up again many times.
"""

from __future__ import annotations

import random
import struct
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import hvmx
from hvmx.cost import FRACTION
from hvmx.machine import StopKind

from .harness import DOMID_SELF, LEAF, WRITABLE, Guest
from .kernel import assemble

MMU_UPDATE, UPDATE_VA_MAPPING, MEMORY_OP, MULTICALL, XEN_VERSION, VM_ASSIST, MMUEXT_OP = 1, 14, 12, 13, 17, 21, 26
PIN_L1, PIN_L2, PIN_L3, PIN_L4, UNPIN, NEW_BASEPTR, NEW_USER_BASEPTR = 0, 1, 2, 3, 4, 5, 15
EINVAL, EBUSY = -22, -16
TABLE = LEAF & ~WRITABLE
PARTIAL = 7
ALLOWED = 1.0
"""Seconds of host time, on a loaded host."""

#: Pages of the tree, and the data that its tables of level 1 map.
ROOT, MIDDLE, LOWER, LEAVES, DATA = 40, range(41, 43), range(43, 49), range(49, 73), range(80, 100)


@pytest.fixture
def guest() -> Iterator[Guest]:
    with Guest() as guest:
        for page in (ROOT, *MIDDLE, *LOWER, *LEAVES):
            assert guest.call(UPDATE_VA_MAPPING, guest.virtual(page), guest.entry(page, TABLE), 2) == 0
            guest.words(page)[:] = 0
        for upper, lower in (([ROOT], MIDDLE), (MIDDLE, LOWER), (LOWER, LEAVES), (LEAVES, DATA)):
            for number, page in enumerate(upper):
                share = len(lower) // len(upper) or 7
                for i in range(share):
                    child = lower[(number * share + i) % len(lower)]
                    guest.words(page)[i * 20] = guest.entry(child, TABLE)
        guest.library.harness_set_work_limit(guest.cpu, 30)
        yield guest


def operations(guest: Guest, *list_of: tuple[int, int]) -> tuple[int, ...]:
    """A list for mmuext_op: its number and arguments."""
    at = guest.put(b"".join(struct.pack("<I4xQQ", command, mfn, 0) for command, mfn in list_of))
    return MMUEXT_OP, at, len(list_of), guest.virtual(Guest.SCRATCH) + 0x800, DOMID_SELF


def books(guest: Guest) -> list[tuple[int, int]]:
    """References of every frame, and references of its type."""
    refs, types = guest.library.harness_refs, guest.library.harness_type_refs
    return [(refs(guest.cpu, mfn), types(guest.cpu, mfn)) for mfn in range(1, guest.first_frame + 1)]


def is_partial(guest: Guest, page: int) -> bool:
    return bool(guest.library.harness_type(guest.cpu, guest.frame(page)) == PARTIAL)


def pin_partly(guest: Guest, parts: int = 2) -> tuple[int, ...]:
    call = operations(guest, (PIN_L4, guest.frame(ROOT)))
    assert not guest.call_parts(parts, *call), "the tree was pinned at once"
    assert is_partial(guest, ROOT)
    return call


@pytest.mark.parametrize("limit", [0, 1, 30, 700])
def test_what_is_pinned_and_unpinned_in_parts_leaves_the_books_as_they_were(guest: Guest, limit: int) -> None:
    guest.library.harness_set_work_limit(guest.cpu, limit)
    before = books(guest)
    for _ in range(2):
        assert guest.call(*operations(guest, (PIN_L4, guest.frame(ROOT)))) == 0
        assert guest.audit() is None
        assert books(guest) != before
        assert guest.call(*operations(guest, (UNPIN, guest.frame(ROOT)))) == 0
        assert books(guest) == before, "the call has ended, and something is still held"


def test_a_tree_costs_the_same_in_how_many_parts_so_ever(guest: Guest) -> None:
    taken = set()
    for limit in (0, 1, 17, 300, 1 << 16):
        guest.library.harness_set_work_limit(guest.cpu, limit)
        start = guest.cycles
        for _ in range(FRACTION):  # the harness has prices of 1/FRACTION cycle
            assert guest.call(*operations(guest, (PIN_L4, guest.frame(ROOT)), (UNPIN, guest.frame(ROOT)))) == 0
        taken.add(guest.cycles - start)
    assert len(taken) == 1, f"guest cycles: {taken}"


def test_a_partial_table_cannot_be_written_and_is_of_no_other_type(guest: Guest) -> None:
    pin_partly(guest)
    books_before = books(guest)
    for place in (guest.frame(ROOT) << 12, (guest.frame(ROOT) << 12) + 511 * 8):
        at = guest.put(struct.pack("<QQ", place, 0))
        assert guest.call(MMU_UPDATE, at, 1, 0, DOMID_SELF) == EINVAL
    assert guest.call(UPDATE_VA_MAPPING, guest.virtual(ROOT), guest.entry(ROOT, LEAF), 2) == EBUSY
    assert guest.call(UPDATE_VA_MAPPING, guest.virtual(20), guest.entry(ROOT, TABLE), 2) == 0
    for level in (PIN_L1, PIN_L2, PIN_L3):
        assert guest.call(*operations(guest, (level, guest.frame(ROOT)))) == EINVAL
    assert guest.call(*operations(guest, (UNPIN, guest.frame(ROOT)))) == EINVAL
    assert guest.call(2, guest.put(struct.pack("<Q", guest.frame(ROOT))), 512) == EINVAL
    assert guest.audit() is None
    assert guest.call(UPDATE_VA_MAPPING, guest.virtual(20), guest.entry(20), 2) == 0
    assert books(guest) == books_before


def test_a_partial_table_is_no_base_before_it_is_validated(guest: Guest) -> None:
    base = guest.library.harness_kernel_table
    pin_partly(guest)
    assert not guest.call_parts(1, *operations(guest, (NEW_USER_BASEPTR, guest.frame(ROOT))))
    assert is_partial(guest, ROOT) and base(guest.cpu) == guest.frame(guest.l4)
    assert guest.call(*operations(guest, (NEW_USER_BASEPTR, guest.frame(ROOT)))) == 0
    assert not is_partial(guest, ROOT)
    assert guest.audit() is None


def test_whoever_asks_for_the_table_next_goes_on_with_it(guest: Guest) -> None:
    before = books(guest)
    call = operations(guest, (PIN_L4, guest.frame(ROOT)))
    parts = 1
    while not guest.call_parts(1, *call):
        parts += 1
    assert parts > 10, "the tree was not validated in parts"
    assert guest.call(*operations(guest, (UNPIN, guest.frame(ROOT)))) == 0
    assert books(guest) == before


def test_a_table_that_is_refused_at_its_last_entry_gives_all_back(guest: Guest) -> None:
    for table in (ROOT, MIDDLE[-1], LOWER[-1], LEAVES[-1]):
        before = books(guest)
        guest.words(table)[511] = guest.entry(guest.l4, LEAF)
        assert guest.call(*operations(guest, (PIN_L4, guest.frame(ROOT)))) == (EINVAL if table != LEAVES[-1] else EBUSY)
        assert guest.audit() is None
        guest.call(XEN_VERSION, 0, 0)  # any call comes after what was given up
        assert books(guest) == before, f"page {table}"
        guest.words(table)[511] = 0


def test_nothing_is_still_a_table_for_the_call_after_one_that_was_refused(guest: Guest) -> None:
    guest.words(ROOT)[511] = guest.entry(guest.l4, TABLE)
    inner = operations(guest, (PIN_L4, guest.frame(ROOT)))
    entries = [(UPDATE_VA_MAPPING, guest.virtual(page), guest.entry(page, LEAF), 2) for page in (ROOT, *MIDDLE, *LOWER)]
    calls = b"".join(struct.pack("<Qq6Q", c[0], 0, *c[1:], *[0] * (7 - len(c))) for c in (inner, *entries))
    assert guest.call(MULTICALL, guest.put(calls, 0x100), 1 + len(entries)) == 0
    results = [struct.unpack("<q", guest.get(8, 0x108 + 64 * i))[0] for i in range(1 + len(entries))]
    assert results == [EINVAL] + [0] * len(entries)
    assert guest.audit() is None


def test_an_entry_that_names_a_tree_is_set_once_it_is_validated(guest: Guest) -> None:
    before = books(guest)
    place = (guest.frame(guest.l4) << 12) + 8
    for value in (guest.entry(MIDDLE[0], TABLE), guest.entry(MIDDLE[1], TABLE), 0):
        at = guest.put(struct.pack("<QQ", place, value))
        done = guest.virtual(Guest.SCRATCH) + 0x800
        assert not guest.call_parts(1, MMU_UPDATE, at, 1, done, DOMID_SELF)
        assert guest.call(MMU_UPDATE, at, 1, done, DOMID_SELF) == 0
        assert int(guest.words(guest.l4)[1]) & ~0x60 == value & ~0x60
        assert guest.get(4, 0x800) == b"\1\0\0\0"
        assert guest.audit() is None
    assert books(guest) == before


def test_a_list_goes_on_after_the_element_that_gave_a_tree_up(guest: Guest) -> None:
    before = books(guest)
    steps = [(PIN_L4, guest.frame(ROOT)), (UNPIN, guest.frame(ROOT))] * 3
    assert guest.call(*operations(guest, *steps)) == 0
    assert struct.unpack("<I", guest.get(4, 0x800)) == (len(steps),)
    assert books(guest) == before


def test_a_page_given_back_in_the_middle_of_its_validation_comes_back_at_its_end(guest: Guest) -> None:
    frame, count = guest.frame(ROOT), guest.library.harness_pages(guest.cpu)
    pin_partly(guest)
    assert guest.call(UPDATE_VA_MAPPING, guest.virtual(ROOT), 0, 2) == 0
    extents = guest.put(struct.pack("<Q", frame), 0x100)
    assert guest.call(MEMORY_OP, 1, guest.put(struct.pack("<QQIIH6x", extents, 1, 0, 0, DOMID_SELF))) == 1
    assert guest.audit() is None
    assert guest.call(*operations(guest, (PIN_L4, frame), (UNPIN, frame))) == 0
    assert guest.library.harness_pages(guest.cpu) == count - 1
    assert guest.audit() is None


def test_a_write_to_a_table_waits_for_what_was_given_up(guest: Guest) -> None:
    writable_page_tables, debug, page_fault, present_write = 2, 1, 14, 3
    assert guest.call(VM_ASSIST, 0, writable_page_tables) == 0
    guest.words(ROOT)[511] = guest.entry(guest.l4, TABLE)
    assert guest.call(*operations(guest, (PIN_L4, guest.frame(ROOT)))) == EINVAL
    guest.put(bytes.fromhex("488907"), page=4)  # mov [rdi], rax
    guest.library.harness_set_rip(guest.cpu, guest.virtual(4))
    tries = 0
    while is_partial(guest, ROOT):
        guest.library.harness_exception(guest.cpu, page_fault, present_write, guest.virtual(guest.l1[0]) + ROOT * 8)
        assert guest.library.harness_state(guest.cpu) == 0, f"the guest was given the fault: {guest.crash_reason}"
        tries += 1
    assert tries > 10, "all was given back at once"
    guest.words(guest.l1[0])[ROOT] = guest.entry(ROOT, LEAF)
    guest.library.harness_exception(guest.cpu, debug, 0, 0)
    assert guest.library.harness_state(guest.cpu) == 0, f"the write was refused: {guest.crash_reason}"
    assert int(guest.words(guest.l1[0])[ROOT]) & WRITABLE
    assert guest.audit() is None


# --- how long the host is at it ----------------------------------------------------------------------------------------
PIN_AND_UNPIN = """
1:  movl $3, operation(%rip)
    call extended
    incq pinned(%rip)
    movl $4, operation(%rip)
    call extended
    jmp 1b
extended:
    lea operation(%rip), %rdi
    mov $1, %esi
    xor %edx, %edx
    mov $0x7ff0, %r10d
    hypercall 26
    mov %rax, %r12
    ret
"""


def with_a_tree_of_all_memory(megabytes: int) -> hvmx.Machine:
    """A kernel that pins and unpins a table below which nearly every frame is a page table of 512 entries."""
    machine = hvmx.Machine(f"{megabytes}M")
    data = "operation: .quad 0, 1, 0\npinned: .quad 0\n"
    machine.load(assemble(PIN_AND_UNPIN, data=data), pv=True)
    words = machine.memory.view(np.uint64).reshape(-1, 512)
    leaves = len(words) * 15 // 16
    tables = (leaves + 511) // 512
    table = np.uint64(TABLE)
    first_table, first_leaf = 3, 3 + tables
    words[1], words[2] = 0, 0
    words[1, 0] = 2 << 12 | TABLE
    words[2, :tables] = np.arange(first_table, first_leaf, dtype=np.uint64) << 12 | table
    numbers = np.minimum(np.arange(tables * 512), leaves - 1) + first_leaf
    words[first_table:first_leaf] = (numbers.astype(np.uint64) << 12 | table).reshape(tables, 512)
    mapped = np.random.default_rng(1).integers(1, leaves, 512).astype(np.uint64)
    words[first_leaf : first_leaf + leaves] = mapped << 12 | table
    return machine


def test_a_tree_is_validated_alike_however_the_run_is_cut() -> None:
    end, rng = 100_000_000, random.Random(1)
    whole, cut = with_a_tree_of_all_memory(16), with_a_tree_of_all_memory(16)
    whole.run(cycles=end)
    while cut.cpu.cycles < end:
        most = min(end - cut.cpu.cycles, rng.choice((1, 100, 10_000, 1_000_000)))
        cut.run(cycles=rng.randint(1, most))
    assert whole.cpu.registers() == cut.cpu.registers()
    assert whole.cpu.counters() == cut.cpu.counters()
    assert whole.state_hash() == cut.state_hash()
    assert whole.cpu.counters()["hypercalls"] > 20, "there was one part"


def test_no_tree_of_page_tables_delays_a_stop(record_property: Callable[[str, object], None]) -> None:
    machine = with_a_tree_of_all_memory(512)
    late = []
    for _ in range(5):
        asked: list[float] = []

        def ask(asked: list[float] = asked) -> None:
            time.sleep(0.2)
            asked.append(time.monotonic())
            machine.stop()

        thread = threading.Thread(target=ask)
        thread.start()
        assert machine.run(timeout=60).kind is StopKind.REQUESTED
        late.append(time.monotonic() - asked[0])
        thread.join()
    record_property("late", late)
    assert max(late) < ALLOWED, f"a stop took effect after {max(late):.3f} s"
    assert machine.cpu.registers()["r12"] == 0, "the tree was refused"
