"""What the board promises: the PC's places, time in order, a whole state, and no harm from any guest."""

from __future__ import annotations

import random

import pytest

from hvm.rig import HZ, Rig
from hvmx.hvm.device import Device

MAPPED = [
    0x20, 0x21, 0x40, 0x41, 0x42, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71, 0x92, 0xA0, 0xA1, 0xF0,
    *range(0x3F8, 0x400), 0x4D0, 0x4D1,
]  # fmt: skip


def test_the_devices_are_where_a_pc_has_them() -> None:
    regions = Rig(debug_exit=0xF4, debugcon=0xE9).board.ports.regions
    taken = {region.base + byte for region in regions for byte in range(region.length)}
    assert taken == {*MAPPED, 0xE9, 0xF4, 0xF5, 0xF6, 0xF7}


def test_a_debug_port_on_a_taken_port_is_refused() -> None:
    with pytest.raises(ValueError, match="debug-exit port at 0x3fc-0x3ff overlaps serial port at 0x3f8"):
        Rig(debug_exit=0x3FC)
    with pytest.raises(ValueError, match="debug console port at 0xf5-0xf5 overlaps debug-exit port at 0xf4"):
        Rig(debug_exit=0xF4, debugcon=0xF5)


def test_a_board_at_rest_wants_no_time() -> None:
    assert Rig().board.next_event() is None


def test_a_timer_tick_reaches_the_processor_with_its_vector() -> None:
    rig = Rig()
    rig.out(0x20, 0x11)
    rig.out(0x21, 0x30, 0x04, 0x01)
    rig.out(0x43, 0x34)
    rig.out(0x40, 0x9C, 0x2E)
    rig.board.acknowledge_interrupt()  # the control word's own edge
    rig.out(0x20, 0x20)
    rig.interrupts.clear()
    rig.wait(HZ // 100)
    assert rig.interrupts == []
    rig.wait(HZ // 1000)
    assert rig.interrupts == [True]
    assert rig.board.acknowledge_interrupt() == 0x30
    assert rig.interrupts == [True, False]


def exercise(rig: Rig, seed: int, accesses: int) -> list[int]:
    """Random accesses to the board's ports, with random time between them, as a hostile guest makes them."""
    chance = random.Random(seed)
    told = []
    for _ in range(accesses):
        port = chance.choice(MAPPED)
        width = chance.choice((1, 1, 1, 2, 4))
        if chance.random() < 0.5:
            told.append(rig.board.ports.read(port, width))
        else:
            rig.board.ports.write(port, width, chance.getrandbits(8 * width))
        if rig.board.pic.output and chance.random() < 0.5:
            told.append(rig.board.acknowledge_interrupt())
        if chance.random() < 0.1 and rig.board.serial.room > 16:
            rig.board.input.enter(chance.randbytes(16))
        rig.wait(chance.choice((10, 1000, 100_000)))
    return told


@pytest.mark.parametrize("seed", range(20))
def test_no_access_breaks_the_board_or_stops_time(seed: int) -> None:
    rig = Rig()
    told = exercise(rig, seed, 2000)
    assert told
    assert all(0 <= value <= 0xFFFF_FFFF for value in told)


@pytest.mark.parametrize("seed", range(10))
def test_the_same_accesses_tell_the_same(seed: int) -> None:
    one, other = Rig(), Rig()
    assert exercise(one, seed, 500) == exercise(other, seed, 500)
    assert one.board.save() == other.board.save()


@pytest.mark.parametrize("seed", range(10))
def test_a_loaded_board_goes_on_as_the_saved_one(seed: int) -> None:
    rig, other = Rig(), Rig()
    exercise(rig, seed, 500)
    state = rig.board.save()
    other.clock.cycles = rig.clock.cycles
    other.board.load(state)
    assert other.board.save() == state
    assert other.interrupts[-1] == rig.board.pic.output
    assert other.a20[-1] == rig.board.a20
    assert exercise(other, seed + 1, 500) == exercise(rig, seed + 1, 500)
    assert other.board.save() == rig.board.save()


def test_a_saved_state_is_a_copy() -> None:
    rig = Rig()
    state = rig.board.save()
    exercise(rig, 0, 500)
    fresh = Rig()
    fresh.board.load(state)
    assert fresh.board.save() == Rig().board.save()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda state: state.update(version=99), "Board: saved state is not of version 1"),
        (lambda state: state["pit"].pop("counter1"), "Pit: .* missing or unknown fields: counter1"),
        (lambda state: state["pit"]["counter1"].update(mode="two"), "Counter: saved field mode holds 'two'"),
        (lambda state: state["serial"].update(_fifo=3), "Uart: saved field _fifo holds 3"),
        (lambda state: state.update(cmos=None), "Cmos: saved state is not of version 1"),
    ],
)
def test_a_state_that_is_none_changes_nothing(damage: object, message: str) -> None:
    rig = Rig()
    exercise(rig, 1, 300)
    before = rig.board.save()
    state = Rig().board.save()
    assert callable(damage)
    damage(state)
    with pytest.raises(ValueError, match=message):
        rig.board.load(state)
    assert rig.board.save() == before


@pytest.mark.parametrize("seed", range(5))
def test_a_reset_leaves_what_power_on_leaves(seed: int) -> None:
    rig, fresh = Rig(), Rig()
    exercise(rig, seed, 500)
    rig.board.reset()
    fresh.clock.cycles = rig.clock.cycles
    fresh.board.reset()
    for device in ("pic", "i8042", "port61", "port92"):
        assert getattr(rig.board, device).save() == getattr(fresh.board, device).save(), device
    for port in (0x3F9, 0x3FA, 0x3FB, 0x3FC, 0x3FE, 0x61):
        assert rig.read(port) == fresh.read(port), hex(port)


class Ticker(Device):
    """Counts periods of a thousand guest cycles, each of which raises an interrupt."""

    FIELDS = ("period", "ticks", "timer")

    def __init__(self, rig: Rig, line: int = 5) -> None:
        self.clock, self.line = rig.clock, rig.board.pic.line(line)
        self.timer = rig.board.schedule.timer(self.tick)
        self.reset()

    def read(self, offset: int, width: int) -> int:
        return self.ticks & 0xFF

    def write(self, offset: int, width: int, value: int) -> None:
        self.period = 1000 * value
        self.timer.due = self.clock.cycles + self.period if value else None

    def reset(self) -> None:
        self.period, self.ticks, self.timer.due = 0, 0, None
        self.line(False)

    def tick(self, now: int) -> None:
        self.timer.due = now + self.period
        self.ticks += 1
        self.line(True)


@pytest.mark.parametrize("bus", ["ports", "mmio"])
def test_a_device_added_from_outside_is_asked_for_its_events_and_reset_like_the_others(bus: str) -> None:
    rig = Rig()
    ticker = Ticker(rig)
    getattr(rig.board, bus).add(0x2C0, 1, ticker, "ticker")
    rig.out(0x20, 0x11)
    rig.out(0x21, 0x30, 0x04, 0x01)
    getattr(rig.board, bus).write(0x2C0, 1, 2)
    assert rig.board.next_event() == 2000
    rig.wait(5000)
    assert (ticker.ticks, rig.board.next_event()) == (2, 6000)
    assert rig.board.acknowledge_interrupt() == 0x35
    rig.board.reset()
    assert (ticker.ticks, rig.board.next_event()) == (0, None)


def test_a_device_added_from_outside_is_saved_and_loaded_with_the_board() -> None:
    rig, other = Rig(), Rig()
    for each in (rig, other):
        each.board.ports.add(0x2C0, 1, Ticker(each), "ticker")
    rig.out(0x2C0, 3)
    rig.wait(4000)
    state = rig.board.save()
    other.board.load(state)
    assert other.board.save() == state
    assert (other.read(0x2C0), other.board.next_event()) == (1, 6000)
    with pytest.raises(ValueError, match="the board has not the devices that were saved: ticker at port 0x2c0"):
        Rig().board.load(state)
    state["added"]["ticker at port 0x2c0"]["ticks"] = "two"
    before = other.board.save()
    with pytest.raises(ValueError, match="Ticker: saved field ticks holds 'two'"):
        other.board.load(state)
    assert other.board.save() == before


def test_a_device_in_two_places_is_one_device() -> None:
    rig = Rig()
    ticker = Ticker(rig)
    rig.board.ports.add(0x2C0, 1, ticker, "ticker")
    rig.board.mmio.add(0xFED0_0000, 1, ticker, "ticker")
    rig.out(0x2C0, 1)
    rig.wait(1500)
    assert ticker.ticks == 1
    assert list(rig.board.save()["added"]) == ["version", "ticker at port 0x2c0"]


def test_what_is_no_device_is_refused_when_it_is_placed() -> None:
    with pytest.raises(TypeError, match="clock: what is placed on a bus is a hvmx.hvm.device.Device"):
        Rig().board.ports.add(0x2C0, 1, object(), "clock")  # type: ignore[arg-type]
