"""What the real-time clock promises: guest time alone, flags and interrupts at their ticks."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvm.rig import HZ, Rig
from hvmx.hvm import cmos
from hvmx.hvm.board import EPOCH

FIELDS = (0, 2, 4, 6, 7, 8, 9, 0x32)


def get(rig: Rig, index: int) -> int:
    rig.out(0x70, index)
    return rig.read(0x71)


def put(rig: Rig, index: int, value: int) -> None:
    rig.out(0x70, index)
    rig.out(0x71, value)


def shown(rig: Rig) -> str:
    second, minute, hour, weekday, day, month, year, century = (get(rig, index) for index in FIELDS)
    return f"{century:02x}{year:02x}-{month:02x}-{day:02x} {hour:02x}:{minute:02x}:{second:02x} day {weekday}"


def requested(rig: Rig) -> bool:
    return bool(rig.board.pic.slave.lines & 1)


def test_the_clock_starts_at_the_epoch_and_goes_with_guest_cycles() -> None:
    rig = Rig()
    assert shown(rig) == "2020-01-01 00:00:00 day 4"
    rig.wait(HZ - 1)
    assert shown(rig) == "2020-01-01 00:00:00 day 4"
    rig.wait(1)
    assert shown(rig) == "2020-01-01 00:00:01 day 4"
    rig.wait(59 * 86400 * HZ)
    assert shown(rig) == "2020-02-29 00:00:01 day 7"


@settings(max_examples=200, deadline=None)
@given(epoch=st.integers(-(10**10), 10**11), seconds=st.integers(0, 10**6))
def test_every_moment_shows_as_the_calendar_has_it(epoch: int, seconds: int) -> None:
    rig = Rig(epoch=epoch)
    rig.wait(seconds * HZ)
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=epoch + seconds)
    assert shown(rig) == f"{moment:%Y-%m-%d %H:%M:%S} day {moment.isoweekday() % 7 + 1}".zfill(25)


def test_the_last_year_goes_over_into_the_first() -> None:
    rig = Rig(epoch=253_402_300_799)
    assert shown(rig)[:19] == "9999-12-31 23:59:59"
    rig.wait(HZ)
    assert shown(rig)[:19] == "0001-01-01 00:00:00"


def test_set_holds_the_time_and_the_divider_runs_on() -> None:
    rig = Rig()
    rig.wait(HZ // 2)
    put(rig, 0x0B, 0x82)
    rig.wait(10 * HZ)
    assert get(rig, 0) == 0
    put(rig, 0x0B, 0x02)
    rig.wait(HZ // 2 - HZ // 100)
    assert get(rig, 0) == 0
    rig.wait(HZ // 50)
    assert get(rig, 0) == 1


def test_after_a_divider_reset_the_first_update_comes_in_half_a_second() -> None:
    rig = Rig()
    rig.wait(HZ // 3)
    put(rig, 0x0A, 0x76)
    rig.wait(5 * HZ)
    assert get(rig, 0) == 0
    put(rig, 0x0A, 0x26)
    rig.wait(HZ // 2 - HZ // 100)
    assert get(rig, 0) == 0
    rig.wait(HZ // 50)
    assert get(rig, 0) == 1


def test_linux_sets_the_time_and_it_stays() -> None:
    rig = Rig()
    rig.wait(HZ // 3)
    put(rig, 0x0B, 0x82)
    put(rig, 0x0A, 0x76)
    for index, value in zip(FIELDS, (0x30, 0x59, 0x23, 0x06, 0x31, 0x12, 0x99, 0x19), strict=True):
        put(rig, index, value)
    put(rig, 0x0B, 0x02)
    put(rig, 0x0A, 0x26)
    assert shown(rig) == "1999-12-31 23:59:30 day 6"
    rig.wait(30 * HZ)
    assert shown(rig) == "2000-01-01 00:00:00 day 7"


def test_update_in_progress_warns_before_the_second_ends() -> None:
    """244 us of warning and 1984 us of update: 8 and 65 ticks of the crystal."""
    tick = 1000
    rig = Rig(hz=cmos.HZ * tick)
    rig.wait((cmos.HZ - 73) * tick - 1)
    assert not get(rig, 0x0A) & 0x80
    rig.wait(1)
    assert get(rig, 0x0A) & 0x80
    rig.wait(73 * tick - 1)
    assert get(rig, 0x0A) & 0x80
    rig.wait(1)
    assert not get(rig, 0x0A) & 0x80
    assert get(rig, 0) == 1


def test_set_clears_the_update_interrupt() -> None:
    rig = Rig()
    put(rig, 0x0B, 0x92)
    assert get(rig, 0x0B) == 0x82


@pytest.mark.parametrize(
    ("control", "raw", "hour"),
    [(0x80, 0x12, 0), (0x80, 0x11, 11), (0x80, 0x92, 12), (0x84, 0x8B, 23), (0x86, 23, 23)],
)
def test_hours_read_and_write_in_both_formats(control: int, raw: int, hour: int) -> None:
    rig = Rig()
    put(rig, 0x0B, control)
    put(rig, 4, raw)
    assert get(rig, 4) == raw
    put(rig, 0x0B, 0x06)
    assert get(rig, 4) == hour


@pytest.mark.parametrize("index", FIELDS)
@pytest.mark.parametrize("value", [0x00, 0x7F, 0xFF])
@pytest.mark.parametrize("control", [0x00, 0x02, 0x04, 0x82])
def test_no_value_of_a_time_register_breaks_the_clock(index: int, value: int, control: int) -> None:
    rig = Rig(epoch=EPOCH + 59 * 86400)  # a leap day
    put(rig, 0x0B, control)
    put(rig, index, value)
    put(rig, 0x0B, 0x02)
    rig.wait(HZ)
    assert 0 <= get(rig, 0) < 0x60


@pytest.mark.parametrize(("rate", "per_second"), [(6, 1024), (3, 8192), (1, 256), (2, 128), (15, 2)])
def test_the_periodic_interrupt_comes_at_its_rate(rate: int, per_second: int) -> None:
    rig = Rig()
    put(rig, 0x0A, 0x20 | rate)
    put(rig, 0x0B, 0x42)
    count = 0
    end = rig.clock.cycles + HZ
    while (due := rig.board.next_event()) is not None and due <= end:
        rig.wait(due - rig.clock.cycles)
        assert requested(rig)
        assert get(rig, 0x0C) & 0xC0 == 0xC0
        assert not requested(rig)
        count += 1
    assert count == per_second


def test_an_interrupt_that_nobody_reads_asks_for_no_more_time() -> None:
    rig = Rig()
    put(rig, 0x0B, 0x72)
    rig.wait(HZ)
    assert requested(rig)
    assert rig.board.next_event() is None


def test_flags_are_set_without_their_interrupts() -> None:
    rig = Rig()
    get(rig, 0x0C)
    rig.wait(HZ)
    assert not requested(rig)
    assert get(rig, 0x0C) == 0x50
    assert get(rig, 0x0C) == 0x00


@pytest.mark.parametrize(
    ("alarm", "seconds"),
    [
        ((0x05, 0x00, 0x00), 5),
        ((0x00, 0x00, 0x00), 86400),
        ((0x00, 0x01, 0xFF), 60),
        ((0xFF, 0xFF, 0xFF), 1),
        ((0x00, 0xC0, 0x01), 3600),
        ((0x30, 0x59, 0x23), 86370),
    ],
)
def test_the_alarm_comes_at_its_time(alarm: tuple[int, int, int], seconds: int) -> None:
    rig = Rig()
    for index, value in zip((1, 3, 5), alarm, strict=True):
        put(rig, index, value)
    put(rig, 0x0B, 0x22)
    rig.wait(seconds * HZ - 1)
    assert not requested(rig)
    rig.wait(1)
    assert requested(rig)
    assert get(rig, 0x0C) & 0xA0 == 0xA0


def test_an_alarm_at_no_time_never_comes() -> None:
    rig = Rig()
    put(rig, 5, 0x77)
    put(rig, 0x0B, 0x22)
    assert rig.board.next_event() is None
    rig.wait(3 * 86400 * HZ)
    assert not get(rig, 0x0C) & 0x20


@pytest.mark.parametrize(
    ("memory", "base", "extended", "above_16m"),
    [
        (512 << 10, 512, 0, 0),
        (1 << 20, 640, 0, 0),
        (16 << 20, 640, 15 << 10, 0),
        (64 << 20, 640, 63 << 10, 48 << 4),
        (128 << 20, 640, 0xFFFF, 112 << 4),
        (16 << 30, 640, 0xFFFF, 0xFFFF),
    ],
)
def test_memory_sizes_are_told_and_summed(memory: int, base: int, extended: int, above_16m: int) -> None:
    rig = Rig(memory_bytes=memory)

    def word(index: int) -> int:
        return get(rig, index) | get(rig, index + 1) << 8

    assert (word(0x15), word(0x17), word(0x30), word(0x34)) == (base, extended, extended, above_16m)
    assert get(rig, 0x2E) << 8 | get(rig, 0x2F) == sum(get(rig, index) for index in range(0x10, 0x2E))


def test_index_bit_7_masks_nmi() -> None:
    rig = Rig()
    rig.out(0x70, 0x8F)
    assert rig.board.cmos.nmi_masked
    assert rig.board.cmos.index == 0x0F
    rig.out(0x70, 0x0F)
    assert not rig.board.cmos.nmi_masked


def test_a_reset_stops_interrupts_and_keeps_time_and_memory() -> None:
    rig = Rig()
    put(rig, 0x40, 0x5A)
    put(rig, 0x0B, 0x72)
    rig.wait(3 * HZ)
    rig.board.reset()
    assert not requested(rig)
    assert rig.board.next_event() is None
    assert get(rig, 0x40) == 0x5A
    assert get(rig, 0) == 3


def test_a_saved_clock_goes_on_where_it_was() -> None:
    rig, other = Rig(), Rig(epoch=0)
    put(rig, 0x0B, 0x52)
    put(rig, 9, 0x31)
    rig.wait(HZ * 7 // 3)
    other.clock.cycles = rig.clock.cycles
    other.board.load(rig.board.save())
    assert shown(other) == shown(rig)
    for each in (rig, other):
        get(each, 0x0C)
        each.wait(HZ)
    assert other.board.save() == rig.board.save()


def test_a_saved_memory_of_another_size_is_refused() -> None:
    state = Rig().board.cmos.save()
    state["_ram"] = bytes(64)
    with pytest.raises(ValueError, match="saved memory of 64 bytes"):
        Rig().board.cmos.load(state)
