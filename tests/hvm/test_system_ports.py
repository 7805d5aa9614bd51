"""What ports 0x61 and 0x92 and the two debug ports promise."""

from __future__ import annotations

from itertools import pairwise

import pytest

from hvm.rig import HZ, Rig
from hvmx.hvm import pit


def test_port_61_gates_counter_2_and_shows_its_out() -> None:
    rig = Rig()
    rig.out(0x43, 0xB0)
    rig.out(0x42, 0x10, 0x00)
    rig.wait(HZ)
    assert not rig.read(0x61) & 0x20, "the gate is low"
    rig.out(0x61, 0x01)
    rig.wait(HZ * 20 // pit.HZ)
    assert rig.read(0x61) & 0x2F == 0x21


def test_the_refresh_bit_toggles_every_15_microseconds() -> None:
    rig = Rig()
    levels = []
    for _ in range(100_000):
        levels.append(rig.read(0x61) >> 4 & 1)
        rig.wait(HZ // 1_000_000)
    changes = sum(one != other for one, other in pairwise(levels))
    assert changes == pytest.approx(0.1 * pit.HZ / 18, rel=0.01)


def test_linux_calibrates_against_counter_2() -> None:
    """Mode 0 through the gate for 50 ms, as the kernel measures its TSC: OUT rises when the time is over."""
    rig = Rig()
    rig.out(0x61, rig.read(0x61) & ~2 | 1)
    rig.out(0x43, 0xB0)
    latch = pit.HZ // 20
    rig.out(0x42, latch & 0xFF, latch >> 8)
    start = rig.clock.cycles
    while not rig.read(0x61) & 0x20:
        rig.wait(100)
    assert rig.clock.cycles - start == pytest.approx(HZ / 20, rel=1e-4)


def test_port_92_resets_once_a_rise() -> None:
    rig = Rig()
    rig.out(0x92, 0x01)
    rig.out(0x92, 0x03)
    assert rig.resets == 1
    assert rig.read(0x92) == 0x03
    rig.out(0x92, 0x00)
    rig.out(0x92, 0x01)
    assert rig.resets == 2


@pytest.mark.parametrize(("width", "value"), [(1, 0x31), (2, 0x1234), (4, 0xDEADBEEF)])
def test_debug_exit_hands_over_the_value_in_every_width(width: int, value: int) -> None:
    rig = Rig(debug_exit=0xF4)
    rig.board.ports.write(0xF4, width, value)
    assert rig.shutdowns == [value]
    assert rig.board.ports.read(0xF4, width) == (1 << 8 * width) - 1


def test_the_debug_console_passes_bytes_and_says_that_it_is_there() -> None:
    rig = Rig(debugcon=0x402)
    rig.out(0x402, *b"SeaBIOS")
    assert rig.debugged == b"SeaBIOS"
    assert rig.read(0x402) == 0xE9
