"""What the timer promises: the counts and levels of a counter stepped clock by clock, without stepping."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvm.rig import Line, ManualClock
from hvmx.hvm.pit import HZ, Counter, Pit
from hvmx.hvm.schedule import Schedule


@dataclass
class Stepped:
    """A counter by the book: everything happens at a falling edge of the clock, one edge after the other."""

    mode: int
    gate: bool
    count: int = 0
    out: bool = False
    written: int | None = None  # waits for its load
    reload: int | None = None
    armed: bool = False  # modes 0 and 4: the terminal count is still to come; 1 and 5: triggered
    rose: bool = False  # the gate, since the last clock

    def __post_init__(self) -> None:
        self.out = self.mode != 0

    def write(self, value: int) -> None:
        self.written = value
        if self.mode == 0:
            self.out = False

    def set_gate(self, level: bool) -> None:
        self.rose = self.rose or (level and not self.gate)
        self.gate = level
        if self.mode in (2, 3) and not level:
            self.out = True

    def clock(self) -> None:
        rose, self.rose = self.rose, False
        if self.mode in (2, 3):
            self._clock_periodic(rose)
        elif self.mode in (0, 4):
            self._clock_once()
        else:
            self._clock_triggered(rose)

    def _clock_once(self) -> None:
        if self.mode == 4:
            self.out = True
        if self.written is not None:
            self.count, self.written, self.armed = self.written, None, True
            return
        if self.armed and self.gate:
            self.count -= 1
            if self.count == 0:
                self.out = self.mode == 0
                self.armed = False

    def _clock_triggered(self, rose: bool) -> None:
        if self.mode == 5:
            self.out = True
        if rose and self.written is not None:
            self.count, self.armed = self.written, True
            self.out = self.mode == 5
        elif self.armed:
            self.count -= 1
            if self.count == 0:
                self.out = self.mode == 1
                self.armed = False

    def _clock_periodic(self, rose: bool) -> None:
        if self.written is not None and (self.reload is None or rose):
            self.reload, self.written = self.written, None
            if not self.gate:
                return
            self.count, self.out = self._start(), True
            return
        if self.reload is None or not self.gate:
            return
        if rose:
            self.count, self.out = self._start(), True
            return
        if self.mode == 2:
            self.count -= 1
            if self.count == 0:
                self._next()
                self.count = self.reload
            self.out = self.count != 1
            return
        # Mode 3: an odd count's high half lasts one clock longer, at zero.
        last = 0 if self.out and self.reload & 1 else 2
        if self.count <= last:
            self.out = not self.out
            self._next()
            self.count = self.reload & ~1
        else:
            self.count -= 2

    def _start(self) -> int:
        assert self.reload is not None
        return self.reload if self.mode == 2 else self.reload & ~1

    def _next(self) -> None:
        if self.written is not None:
            self.reload, self.written = self.written, None


COUNTS = st.integers(2, 12)


@pytest.mark.parametrize("mode", [0, 2, 3, 4])
@settings(max_examples=300, deadline=None)
@given(writes=st.lists(st.tuples(COUNTS, st.integers(1, 40)), min_size=1, max_size=5))
def test_counts_and_levels_are_those_of_every_clock(mode: int, writes: list[tuple[int, int]]) -> None:
    counter, book = Counter(True), Stepped(mode, True)
    counter.control(0x10 | mode << 1, 0)
    tick = 0
    for count, clocks in writes:
        counter.settle(tick)
        counter.write(count, tick)
        book.write(count)
        for _ in range(clocks):
            before = counter.out(tick)
            planned = counter.next_rise(tick)
            tick += 1
            book.clock()
            rose = counter.rose(tick - 1, tick)
            counter.settle(tick)
            assert counter.out(tick) == book.out, f"OUT at tick {tick} of mode {mode}"
            assert rose == (book.out and not before), f"edge at tick {tick} of mode {mode}"
            if book.armed or mode in (2, 3):
                assert counter.value(tick) == book.count, f"count at tick {tick} of mode {mode}"
            if rose:
                assert planned == tick, f"OUT rose at tick {tick} of mode {mode}, announced for {planned}"


@pytest.mark.parametrize("mode", [0, 1, 2, 3, 4, 5])
@settings(max_examples=200, deadline=None)
@given(count=COUNTS, waits=st.lists(st.integers(2, 40), min_size=2, max_size=8))
def test_the_gate_does_what_the_mode_says(mode: int, count: int, waits: list[int]) -> None:
    counter, book = Counter(False), Stepped(mode, False)
    counter.control(0x10 | mode << 1, 0)
    counter.write(count, 0)
    book.write(count)
    tick, gate = 0, False
    for wait in waits:
        gate = not gate
        counter.settle(tick)
        counter.set_gate(gate, tick)
        book.set_gate(gate)
        for _ in range(wait):
            tick += 1
            book.clock()
            counter.settle(tick)
            if mode == 4 and not gate:
                continue  # whether a gate that falls in the strobe cuts it short, the data sheet leaves open
            assert counter.out(tick) == book.out, f"OUT at tick {tick} of mode {mode}"


class Bench:
    """A timer on a clock of its own."""

    def __init__(self, hz: int = HZ) -> None:
        self.clock = ManualClock(hz)
        self.line = Line()
        self.schedule = Schedule(self.clock)
        self.pit = Pit(self.schedule, self.line)

    def run(self, cycles: int) -> None:
        end = self.clock.cycles + cycles
        while (due := self.schedule.next_event()) is not None and due <= end:
            assert due > self.clock.cycles
            self.clock.cycles = due
            self.schedule.advance(due)
        self.clock.cycles = end

    def program(self, number: int, mode: int, count: int, bcd: bool = False) -> None:
        self.pit.write(3, 1, number << 6 | 0x30 | mode << 1 | bcd)
        self.pit.write(number, 1, count & 0xFF)
        self.pit.write(number, 1, count >> 8)

    def count(self, number: int) -> int:
        self.pit.write(3, 1, number << 6)
        low = self.pit.read(number, 1)
        return low | self.pit.read(number, 1) << 8


@pytest.mark.parametrize("mode", [2, 3])
def test_a_period_has_one_event_which_is_the_rise(mode: int) -> None:
    bench = Bench()
    bench.program(0, mode, 11932)
    first = bench.schedule.next_event()
    assert first is not None
    bench.run(first)
    second = bench.schedule.next_event()
    assert second is not None
    assert second - first == pytest.approx(11932 * bench.clock.hz / 1_193_182, abs=1)


@pytest.mark.parametrize("mode", [2, 3])
@pytest.mark.parametrize("hz", [HZ, 33_333_333, 3_000_000_001])
def test_a_periodic_timer_interrupts_as_often_as_its_count_says(mode: int, hz: int) -> None:
    bench = Bench(hz)
    bench.program(0, mode, 11932)
    first = bench.line.rises
    bench.run(hz)
    assert bench.line.rises - first == HZ // 11932


def test_a_count_of_zero_is_65536() -> None:
    bench = Bench()
    bench.program(0, 2, 0)
    bench.run(65536)
    assert bench.line.rises == 1, "the control word's own rise only"
    bench.run(1)
    assert bench.line.rises == 2


@pytest.mark.parametrize("mode", [0, 4])
def test_a_one_shot_interrupts_once_and_at_its_time(mode: int) -> None:
    bench = Bench()
    bench.program(0, mode, 100)
    before = bench.line.rises
    bench.run(100 + (mode == 4))
    assert bench.line.rises == before
    bench.run(1)
    assert bench.line.rises == before + 1
    bench.run(10 * 65536)
    assert bench.line.rises == before + 1
    assert bench.schedule.next_event() is None


def test_a_late_advance_shows_every_edge() -> None:
    bench = Bench()
    bench.program(0, 2, 100)
    rises = bench.line.rises
    bench.clock.cycles = 250
    bench.schedule.advance(250)
    assert bench.line.rises == rises + 2
    due = bench.schedule.next_event()
    assert due is not None and due > 250


def test_a_new_period_starts_when_the_old_one_ends() -> None:
    bench = Bench()
    bench.program(0, 2, 100)
    bench.run(50)
    bench.pit.write(0, 1, 10)
    bench.pit.write(0, 1, 0)
    assert bench.count(0) == 51
    bench.run(51 + 3)
    assert bench.count(0) == 7


@pytest.mark.parametrize("count", [1, 2])
def test_the_smallest_counts_neither_hang_nor_fail(count: int) -> None:
    for mode in range(6):
        bench = Bench()
        bench.program(0, mode, count)
        bench.run(1000)
        assert 0 <= bench.count(0) <= 0xFFFF


def test_a_bcd_counter_counts_and_wraps_in_tens() -> None:
    bench = Bench()
    bench.program(0, 0, 0x0100, bcd=True)
    bench.run(2)
    assert bench.count(0) == 0x0099
    bench.run(100)
    assert bench.count(0) == 0x9999


def test_digits_that_are_none_stay_within_the_counter() -> None:
    bench = Bench()
    bench.program(0, 2, 0xFFFF, bcd=True)
    bench.run(1234)
    assert all(bench.count(0) >> 4 * digit & 15 <= 9 for digit in range(4))


def test_null_count_ends_with_the_load() -> None:
    bench = Bench()
    bench.pit.write(3, 1, 0x34)
    bench.pit.write(3, 1, 0xE2)
    assert bench.pit.read(0, 1) & 0x40
    bench.pit.write(0, 1, 100)
    bench.pit.write(0, 1, 0)
    bench.pit.write(3, 1, 0xE2)
    assert bench.pit.read(0, 1) & 0x40
    bench.run(1)
    bench.pit.write(3, 1, 0xE2)
    assert not bench.pit.read(0, 1) & 0x40


def test_read_back_latches_several_counters_at_once() -> None:
    bench = Bench()
    bench.program(0, 2, 1000)
    bench.program(1, 2, 1000)
    bench.run(101)
    bench.pit.write(3, 1, 0xD6)
    bench.run(50)
    for number in (0, 1):
        assert bench.pit.read(number, 1) | bench.pit.read(number, 1) << 8 == 900


def test_one_byte_access_reads_and_writes_that_byte() -> None:
    bench = Bench()
    bench.pit.write(3, 1, 0x90)
    bench.pit.write(2, 1, 0x77)
    assert [bench.pit.read(2, 1), bench.pit.read(2, 1)] == [0x77, 0x77]
    bench.pit.write(3, 1, 0xA0)
    bench.pit.write(2, 1, 0x66)
    assert [bench.pit.read(2, 1), bench.pit.read(2, 1)] == [0x66, 0x66]


def test_the_first_of_two_bytes_stops_mode_0_and_lowers_out() -> None:
    bench = Bench()
    bench.program(0, 0, 10)
    bench.run(20)
    assert bench.line.level
    bench.pit.write(0, 1, 5)
    assert not bench.line.level
    stopped = bench.count(0)
    bench.run(1000)
    assert bench.count(0) == stopped
    assert not bench.line.level
    bench.pit.write(0, 1, 0)
    bench.run(6)
    assert bench.line.level


def test_a_saved_timer_goes_on_where_it_was() -> None:
    bench, other = Bench(), Bench()
    bench.program(0, 3, 1001)
    bench.program(2, 0, 500)
    bench.run(700)
    other.clock.cycles = bench.clock.cycles
    other.pit.load(bench.pit.save())
    other.line.level = bench.line.level
    other.line.rises = bench.line.rises
    for each in (bench, other):
        each.run(12345)
    assert other.pit.save() == bench.pit.save()
    assert other.line.rises == bench.line.rises
    assert other.count(0) == bench.count(0)
