"""Page types: whatever a guest asks for, no frame is both writable to it and a page table, and the books balance."""

from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .harness import DOMID_SELF, LEAF, PRESENT, USER, WRITABLE, Guest, library

MMU_UPDATE, UPDATE_VA_MAPPING, MMUEXT_OP, MEMORY_OP = 1, 14, 26, 12
PIN_L1, PIN_L4, UNPIN, NEW_BASEPTR, NEW_USER_BASEPTR, CLEAR_PAGE, COPY_PAGE = 0, 3, 4, 5, 15, 16, 17
DECREASE, POPULATE = 1, 6
EINVAL, EBUSY, EPERM, ESRCH, ENOSYS, EFAULT = -22, -16, -1, -3, -38, -14

FIRST_FREE = 16
"""Pages from here on are mapped writable and otherwise unused."""


def update(guest: Guest, pointer: int, value: int) -> int:
    at = guest.put(struct.pack("<QQ", pointer, value))
    return guest.call(MMU_UPDATE, at, 1, 0, DOMID_SELF)


def extended(guest: Guest, command: int, mfn: int, second: int = 0) -> int:
    at = guest.put(struct.pack("<I4xQQ", command, mfn, second))
    return guest.call(MMUEXT_OP, at, 1, 0, DOMID_SELF)


def place(guest: Guest, table: int, index: int) -> int:
    """Machine address of an entry of the table in page `table`."""
    return guest.frame(table) * 0x1000 + index * 8


def map_page(guest: Guest, page: int, value: int) -> int:
    """Map at the address that is page `page`'s own."""
    return guest.call(UPDATE_VA_MAPPING, guest.virtual(page), value, 2)


def hide(guest: Guest, page: int) -> None:
    """Leave a page mapped read-only, so that it can become a table."""
    assert map_page(guest, page, guest.entry(page, LEAF & ~WRITABLE)) == 0


def test_a_page_that_is_mapped_writable_cannot_become_a_page_table() -> None:
    with Guest() as guest:
        assert extended(guest, PIN_L1, guest.frame(20)) == EINVAL
        hide(guest, 20)
        assert extended(guest, PIN_L1, guest.frame(20)) == 0
        assert guest.audit() is None


def test_a_page_table_cannot_be_mapped_writable() -> None:
    with Guest() as guest:
        assert map_page(guest, guest.l4, guest.entry(guest.l4)) == EBUSY
        assert map_page(guest, guest.l4, guest.entry(guest.l4, LEAF & ~WRITABLE)) == 0
        assert guest.audit() is None


def test_memory_that_is_not_the_domains_cannot_be_mapped() -> None:
    with Guest() as guest:
        own_of_xen = guest.first_frame + 1
        beyond = Guest.PAGES + 5
        assert map_page(guest, 20, own_of_xen << 12 | LEAF) == EBUSY
        assert map_page(guest, 20, beyond << 12 | LEAF) == EPERM
        assert map_page(guest, 20, 0 << 12 | LEAF) == EBUSY
        assert guest.audit() is None


def test_a_dom0_may_map_device_memory_and_a_domu_may_not() -> None:
    apic = 0xFEE00
    for flags, expected in ((0, EPERM), (3, 0)):
        with Guest(flags) as guest:
            assert map_page(guest, 20, apic << 12 | LEAF) == expected
            assert guest.audit() is None


def test_shared_info_can_be_mapped_writable_and_the_m2p_cannot_be_reached() -> None:
    with Guest() as guest:
        shared_info = guest.library.harness_shared_info(guest.cpu)
        assert map_page(guest, 20, shared_info << 12 | LEAF) == 0
        m2p = int.from_bytes(guest.words(guest.l4)[256].tobytes(), "little") & ~0xFFF
        assert m2p, "the validated root has no M2P"
        assert map_page(guest, 21, m2p | PRESENT | USER) == EBUSY


def test_entries_in_the_hypervisors_slots_are_refused() -> None:
    with Guest() as guest:
        value = guest.entry(guest.l3)
        for slot, expected in ((255, 0), (256, EINVAL), (271, EINVAL), (272, 0)):
            assert update(guest, place(guest, guest.l4, slot), value) == expected, f"slot {slot}"
        assert guest.audit() is None


def test_every_kernel_page_is_a_user_page_to_the_processor() -> None:
    with Guest() as guest:
        assert map_page(guest, 20, guest.frame(20) << 12 | PRESENT) == 0
        entry = int(guest.words(guest.l1[0])[20])
        assert entry & USER and entry >> 52 & 1 and not entry >> 8 & 1, f"{entry:#x}"
        assert map_page(guest, 20, guest.frame(20) << 12 | PRESENT | USER) == 0
        entry = int(guest.words(guest.l1[0])[20])
        assert entry & USER and entry >> 8 & 1, f"a user page is not global: {entry:#x}"


def test_reserved_flags_are_refused() -> None:
    with Guest() as guest:
        large = guest.entry(guest.l1[0]) | 0x80
        assert update(guest, place(guest, guest.l2, 5), large) == EINVAL


def test_preserve_ad_keeps_what_the_processor_set() -> None:
    with Guest() as guest:
        guest.words(guest.l1[0])[20] = guest.entry(20)
        assert update(guest, place(guest, guest.l1[0], 20) | 2, guest.frame(20) << 12 | PRESENT | USER) == 0
        assert int(guest.words(guest.l1[0])[20]) & 0x60 == 0x60
        assert update(guest, place(guest, guest.l1[0], 20), guest.frame(20) << 12 | PRESENT | USER) == 0
        assert int(guest.words(guest.l1[0])[20]) & 0x60 == 0


def test_mmu_update_of_an_ordinary_page_is_an_ordinary_write() -> None:
    with Guest() as guest:
        assert update(guest, place(guest, 20, 3), 0x1234567890ABCDEF) == 0
        assert int(guest.words(20)[3]) == 0x1234567890ABCDEF


def test_machphys_update_changes_only_frames_of_the_domain() -> None:
    with Guest() as guest:
        assert update(guest, guest.frame(20) << 12 | 1, 0x77) == 0
        m2p = guest.first_frame + 1  # the hypervisor's frames begin with the M2P
        assert int(guest.memory[m2p << 12 :].view("<u8")[guest.frame(20)]) == 0x77
        assert update(guest, (guest.first_frame + 1) << 12 | 1, 0x77) == EINVAL


def test_a_list_says_how_much_of_it_was_done() -> None:
    with Guest() as guest:
        good = struct.pack("<QQ", place(guest, 20, 0), 1)
        bad = struct.pack("<QQ", (guest.first_frame + 1) << 12, 1)
        at = guest.put(good * 3 + bad + good, 0x100)
        done = guest.put(b"\xff" * 4)
        assert guest.call(MMU_UPDATE, at, 5, done, DOMID_SELF) == EINVAL
        assert struct.unpack("<I", guest.get(4)) == (3,)


def test_a_long_list_is_preempted_and_goes_on_to_its_end() -> None:
    with Guest() as guest:
        list_pages = range(FIRST_FREE, FIRST_FREE + 512)
        target = FIRST_FREE - 1
        for number, page in enumerate(list_pages):
            entries = (struct.pack("<QQ", place(guest, target, 0), number * 256 + i) for i in range(256))
            guest.put(b"".join(entries), page=page)
        count = 256 * len(list_pages)
        done = guest.put(b"\xff" * 4)
        assert guest.call(MMU_UPDATE, guest.virtual(FIRST_FREE), count, done, DOMID_SELF) == 0
        assert int(guest.words(target)[0]) == count - 1, "the list did not reach its end"
        assert struct.unpack("<I", guest.get(4)) == (count,)
        assert guest.library.harness_count(guest.cpu, MMU_UPDATE) == 2, "the list was not preempted once"


def test_the_three_low_bits_of_a_place_are_a_command_and_unknown_ones_are_refused() -> None:
    with Guest() as guest:
        for command, expected in ((3, 0), (4, ENOSYS), (5, ENOSYS), (6, ENOSYS), (7, ENOSYS)):
            assert update(guest, place(guest, 20, 3) | command, command) == expected, f"command {command}"
        assert int(guest.words(20)[3]) == 3


def test_a_count_that_cannot_be_said_changes_nothing() -> None:
    with Guest() as guest:
        nowhere = 0x1000
        at = guest.put(struct.pack("<QQ", place(guest, 20, 0), 1), 0x100)
        assert guest.call(MMU_UPDATE, at, 1, nowhere, DOMID_SELF) == 0
        operation = guest.put(struct.pack("<I4xQQ", CLEAR_PAGE, guest.frame(20), 0))
        assert guest.call(MMUEXT_OP, operation, 1, nowhere, DOMID_SELF) == 0
        assert int(guest.words(20)[0]) == 0


def test_whose_page_tables_change_is_said_by_number_and_whose_frames_are_mapped_is_not() -> None:
    for flags, own in ((0, 1), (3, 0)):
        with Guest(flags) as guest:
            at = guest.put(struct.pack("<QQ", place(guest, 20, 0), 1))
            assert guest.call(MMU_UPDATE, at, 1, 0, (own + 1) << 16 | DOMID_SELF) == 0
            assert guest.call(MMU_UPDATE, at, 1, 0, (own + 2) << 16 | DOMID_SELF) == ESRCH
            assert guest.call(MMU_UPDATE, at, 1, 0, own) == ESRCH, "a domain is not foreign to itself"
            assert guest.call(MMUEXT_OP, at, 0, 0, own) == ESRCH


def test_an_unreadable_list_is_efault() -> None:
    with Guest() as guest:
        assert guest.call(MMU_UPDATE, 0x1000, 1, 0, DOMID_SELF) == EFAULT
        assert guest.call(MMU_UPDATE, 0xFFFF820000000000, 1, 0, DOMID_SELF) == EFAULT
        assert guest.call(MMU_UPDATE, 0xFFFF820000000000, 1, 0, 5) == EFAULT, "the list is looked at first"
        assert guest.call(MMU_UPDATE, guest.virtual(1), 1, 0, 5) == ESRCH


def test_a_flush_reads_the_set_of_processors_that_it_is_for() -> None:
    with Guest() as guest:
        for command in (8, 9):
            assert extended(guest, command, guest.virtual(20), 0x1000) == EINVAL
            assert extended(guest, command, guest.virtual(20), guest.virtual(20)) == 0
        for flush in (1, 2):
            assert guest.call(UPDATE_VA_MAPPING, guest.virtual(20), guest.entry(20), flush | 0x1000) == EFAULT
            assert guest.call(UPDATE_VA_MAPPING, guest.virtual(20), guest.entry(20), flush | guest.virtual(21)) == 0
            assert guest.call(UPDATE_VA_MAPPING, guest.virtual(20), guest.entry(20), flush | 4) == 0


def test_reservations_and_grants_are_the_domains_by_its_number_too() -> None:
    for flags, own, other in ((0, 1, 0), (3, 0, 1)):
        with Guest(flags) as guest:
            assert map_page(guest, 20, 0) == 0
            guest.put(struct.pack("<Q", guest.frame(20)), 0x100)
            for domid, expected in ((other, 0), (own, 1)):
                guest.put(struct.pack("<QQIIH6x", guest.virtual(1) + 0x100, 1, 0, 0, domid))
                assert guest.call(MEMORY_OP, DECREASE, guest.virtual(1)) == expected
                setup = struct.pack("<HxxIhxxxxxxQ", domid, 1, 9, guest.virtual(1) + 0x200)
                assert guest.call(20, 2, guest.put(setup), 1) == 0
                assert struct.unpack("<h", guest.get(2, 8)) == ((0 if expected else -2),)


def test_a_root_must_be_a_valid_root() -> None:
    with Guest() as guest:
        assert extended(guest, NEW_BASEPTR, guest.frame(guest.l3)) == EINVAL
        assert extended(guest, NEW_BASEPTR, guest.frame(guest.l4)) == 0
        assert extended(guest, NEW_USER_BASEPTR, guest.frame(guest.l2)) == EINVAL
        assert extended(guest, NEW_USER_BASEPTR, guest.frame(guest.l4)) == 0
        assert extended(guest, NEW_USER_BASEPTR, 0) == 0
        assert guest.audit() is None


def test_memory_given_back_is_gone_and_can_be_had_again_zeroed() -> None:
    with Guest() as guest:
        guest.put(b"secret", page=20)
        frame = guest.frame(20)
        assert map_page(guest, 20, 0) == 0
        guest.put(struct.pack("<QQIIH6x", guest.virtual(1) + 0x100, 1, 0, 0, DOMID_SELF))
        guest.put(struct.pack("<Q", frame), 0x100)
        assert guest.call(MEMORY_OP, DECREASE, guest.virtual(1)) == 1
        assert map_page(guest, 20, frame << 12 | LEAF) == EBUSY
        guest.put(struct.pack("<Q", 20), 0x100)
        assert guest.call(MEMORY_OP, POPULATE, guest.virtual(1)) == 1
        assert struct.unpack("<Q", guest.get(8, 0x100)) == (frame,)
        assert guest.get(6, page=20) == bytes(6)
        assert guest.call(MEMORY_OP, POPULATE, guest.virtual(1)) == 0, "more memory than the reservation"
        assert guest.audit() is None


def test_references_do_not_overflow() -> None:
    with Guest() as guest:
        most = (1 << 24) - 1
        guest.library.harness_set_references(guest.cpu, guest.frame(30), most)
        assert map_page(guest, 20, guest.entry(30)) == EBUSY
        assert extended(guest, CLEAR_PAGE, guest.frame(30)) == EINVAL
        guest.library.harness_set_references(guest.cpu, guest.frame(30), 1)
        assert guest.audit() is None


def test_the_book_of_a_frame_is_of_8_bytes() -> None:
    """So that of a domain that uses all of 6 GiB they take 12 MiB."""
    assert library().harness_frame_bytes() == 8


# --- the state machine, at random -------------------------------------------------------------------------------------
PAGES = st.integers(FIRST_FREE, FIRST_FREE + 11)


def some_page(guest: Guest, choice: int) -> int:
    """One of a dozen spare pages, or one of the tables of the start of day."""
    tables = [guest.l4, guest.l3, guest.l2, *guest.l1]
    return tables[choice - 12] if choice >= 12 else FIRST_FREE + choice


ENTRY_FLAGS = st.sampled_from(
    [0, PRESENT, PRESENT | USER, LEAF, LEAF & ~USER, LEAF | 0x80, LEAF | 0x100, LEAF | 1 << 62]
)
STEP = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 16), st.integers(0, 3), st.integers(0, 16), ENTRY_FLAGS),
    st.tuples(st.just("map"), st.integers(0, 11), st.just(0), st.integers(0, 16), ENTRY_FLAGS),
    st.tuples(st.just("pin"), st.integers(0, 16), st.integers(PIN_L1, PIN_L4), st.just(0), st.just(0)),
    st.tuples(st.just("unpin"), st.integers(0, 16), st.just(0), st.just(0), st.just(0)),
    st.tuples(st.just("base"), st.integers(0, 16), st.sampled_from([NEW_USER_BASEPTR, NEW_BASEPTR]), st.just(0), st.just(0)),
    st.tuples(st.just("clear"), st.integers(0, 16), st.sampled_from([CLEAR_PAGE, COPY_PAGE]), st.integers(0, 16), st.just(0)),
    st.tuples(st.just("release"), st.integers(0, 11), st.just(0), st.just(0), st.just(0)),
    st.tuples(st.just("populate"), st.integers(0, 11), st.just(0), st.just(0), st.just(0)),
    st.tuples(st.just("gdt"), st.integers(0, 16), st.just(0), st.just(0), st.just(0)),
    st.tuples(st.just("poke"), st.integers(0, 11), st.integers(0, 511), st.integers(0, 16), ENTRY_FLAGS),
)  # fmt: skip


def take(guest: Guest, step: tuple[str, int, int, int, int]) -> None:
    kind, first, number, second, flags = step
    page, other = some_page(guest, first), some_page(guest, second)
    if kind == "write":
        update(guest, place(guest, page, number), guest.entry(other, flags))
    elif kind == "map":
        map_page(guest, page, guest.entry(other, flags))
    elif kind == "pin":
        extended(guest, number, guest.frame(page))
    elif kind == "unpin" and page not in guest.table_pages:
        extended(guest, UNPIN, guest.frame(page))
    elif kind == "base" and (page == guest.l4 or number == NEW_USER_BASEPTR):
        extended(guest, number, guest.frame(page))
    elif kind == "clear":
        extended(guest, number, guest.frame(page), guest.frame(other))
    elif kind in ("release", "populate"):
        subject = guest.frame(page) if kind == "release" else page
        guest.put(struct.pack("<QQIIH6x", guest.virtual(1) + 0x100, 1, 0, 0, DOMID_SELF))
        guest.put(struct.pack("<Q", subject), 0x100)
        guest.call(MEMORY_OP, DECREASE if kind == "release" else POPULATE, guest.virtual(1))
    elif kind == "gdt":
        guest.call(2, guest.put(struct.pack("<Q", guest.frame(page))), 512)
    elif kind == "poke":
        poke(guest, page, number, guest.entry(other, flags))


def poke(guest: Guest, page: int, index: int, value: int) -> None:
    """What the guest may do by itself: write to a page that it has mapped writable."""
    if int(guest.words(guest.l1[0])[page]) & 3 == 3:
        frame = int(guest.words(guest.l1[0])[page]) >> 12 & 0xFFFFFFFFFF
        if frame < Guest.PAGES:
            guest.memory[frame << 12 : (frame + 1) << 12].view("<u8")[index] = value


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, min_size=5, max_size=60))
def test_no_sequence_of_calls_unbalances_the_books(steps: list[tuple[str, int, int, int, int]]) -> None:
    with Guest() as guest:
        for step in steps:
            take(guest, step)
            complaint = guest.audit()
            assert complaint is None, f"after {step}: {complaint}"
            if guest.library.harness_state(guest.cpu):
                return


@pytest.mark.parametrize("level", range(4))
def test_a_table_of_the_wrong_level_is_refused(level: int) -> None:
    with Guest() as guest:
        tables = [guest.l1[0], guest.l2, guest.l3, guest.l4]
        for at, table in enumerate(tables):
            result = extended(guest, PIN_L1 + level, guest.frame(table))
            pinned_already = table == guest.l4
            assert result == (0 if at == level and not pinned_already else EINVAL), f"level {at + 1}"
        assert guest.audit() is None
