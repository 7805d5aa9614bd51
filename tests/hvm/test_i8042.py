"""What the keyboard controller promises: reset, A20, and quick answers for what is not plugged in."""

from __future__ import annotations

import pytest

from hvm.rig import Rig


def answer(rig: Rig) -> tuple[int, int]:
    """The status bits that say whose answer it is, and the answer."""
    status = rig.read(0x64)
    return status & 0x61, rig.read(0x60)


def test_the_reset_pulse_asks_for_a_reset() -> None:
    rig = Rig()
    rig.out(0x64, 0xFF, 0xF1, 0xFD)
    assert rig.resets == 0, "these pulse other lines than reset"
    rig.out(0x64, 0xFE)
    assert rig.resets == 1


def test_pulling_reset_through_the_output_port_asks_for_a_reset() -> None:
    rig = Rig()
    rig.out(0x64, 0xD1)
    rig.out(0x60, 0xDE)
    assert rig.resets == 1


def test_every_way_to_gate_a20_works() -> None:
    rig = Rig()
    assert rig.board.a20
    rig.out(0x64, 0xDD)
    assert rig.a20 == [False]
    rig.out(0x64, 0xDF)
    assert rig.a20 == [False, True]
    rig.out(0x64, 0xD1)
    rig.out(0x60, 0xDD)
    assert rig.a20 == [False, True, False]
    rig.out(0x92, 0x02)
    assert rig.a20 == [False, True, False, True]
    rig.out(0x64, 0xDF)
    rig.out(0x92, 0x00)
    assert rig.a20 == [False, True, False, True], "either gate alone lets the line through"


def test_a_missing_keyboard_times_out_at_once() -> None:
    rig = Rig()
    rig.out(0x60, 0xED)
    assert answer(rig) == (0x41, 0xFE)
    assert rig.read(0x64) & 0x61 == 0


def test_a_missing_mouse_times_out_at_once() -> None:
    rig = Rig()
    rig.out(0x64, 0xD4)
    rig.out(0x60, 0xFF)
    assert answer(rig) == (0x61, 0xFE)


def test_an_answer_after_a_time_out_shows_no_time_out() -> None:
    rig = Rig()
    rig.out(0x60, 0xED)
    rig.out(0x64, 0xAA)
    assert answer(rig) == (0x01, 0x55)


@pytest.mark.parametrize(("command", "number"), [(0xD2, 1), (0xD3, 12)])
def test_a_full_buffer_interrupts_where_the_command_byte_lets_it(command: int, number: int) -> None:
    rig = Rig()
    pic = rig.board.pic

    def lines() -> int:
        return pic.master.lines & ~4 | pic.slave.lines << 8

    rig.out(0x64, command)
    rig.out(0x60, 0x55)
    assert lines() == 1 << number
    assert rig.read(0x60) == 0x55
    assert lines() == 0
    rig.out(0x64, 0x60)
    rig.out(0x60, 0x00)
    rig.out(0x64, command)
    rig.out(0x60, 0x55)
    assert lines() == 0


def test_a_command_between_a_command_and_its_byte_takes_its_place() -> None:
    rig = Rig()
    rig.out(0x64, 0xD1, 0xAA)
    rig.out(0x60, 0x00)
    assert rig.resets == 0


def test_a_reset_opens_a20_again() -> None:
    rig = Rig()
    rig.out(0x64, 0xDD)
    rig.board.reset()
    assert rig.board.a20
    assert rig.a20[-1] is True
