"""What the x87's error wire promises: input 13 from FERR# until port 0xF0 is written, which asserts IGNNE#."""

from __future__ import annotations

from hvm.rig import Rig


def _wire(rig: Rig) -> bool:
    """The level of the slave controller's input 5."""
    return bool(rig.board.pic.slave.lines & 0x20)


def test_an_error_holds_input_13_until_the_guest_answers() -> None:
    rig = Rig()
    rig.board.numeric_error()
    rig.board.numeric_error()
    assert _wire(rig) and rig.ignored_errors == 0
    rig.out(0xF0, 0)
    assert not _wire(rig) and rig.ignored_errors == 1


def test_an_answer_to_no_error_asserts_nothing() -> None:
    rig = Rig()
    rig.out(0xF0, 0)
    assert rig.ignored_errors == 0 and rig.read(0xF0) == 0xFF


def test_a_reset_lowers_the_wire() -> None:
    rig = Rig()
    rig.board.numeric_error()
    rig.board.reset()
    assert not _wire(rig)
    rig.board.numeric_error()
    assert _wire(rig)
