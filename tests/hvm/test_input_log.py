"""What the input door promises: nothing gets past it, and a recorded run comes back the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvm.rig import HZ, Rig
from hvmx.hvm.input_log import Entry, read_file


def guest(rig: Rig, seconds: float) -> list[tuple[int, int]]:
    """A guest that polls its serial port: what it got, and when."""
    got = []
    end = rig.clock.cycles + int(seconds * HZ)
    while rig.clock.cycles < end:
        rig.wait(977)
        if rig.read(0x3FD) & 1:
            got.append((rig.clock.cycles, rig.read(0x3F8)))
    return got


def test_a_replay_gives_the_guest_the_same_bytes_at_the_same_cycles(tmp_path: Path) -> None:
    live = Rig()
    got = guest(live, 0.001)
    live.board.input.enter(b"root\n")
    got += guest(live, 0.02)
    live.board.input.enter(b"\x00\xff")
    got += guest(live, 0.02)
    with (tmp_path / "keys").open("w") as log:
        live.board.input.write(log, seed=7)

    again = Rig()
    recorded = read_file(tmp_path / "keys")
    assert recorded.seed == 7
    again.board.input.replay(recorded.entries)
    assert guest(again, 0.041) == got[: len(got)]
    assert [byte for _, byte in got] == [*b"root\n", 0, 0xFF]
    assert again.board.input.entries == live.board.input.entries


def test_nothing_entered_is_nothing_recorded() -> None:
    rig = Rig()
    rig.board.input.enter(b"")
    assert rig.board.input.entries == []


def test_live_input_is_refused_during_a_replay() -> None:
    rig = Rig()
    rig.board.input.replay([Entry(1000, b"a")])
    with pytest.raises(RuntimeError, match="during a replay"):
        rig.board.input.enter(b"b")
    rig.wait(1000)
    rig.board.input.enter(b"b")
    rig.wait(1)
    assert rig.board.input.entries == [Entry(1000, b"a"), Entry(1001, b"b")]


def test_live_input_enters_at_the_cycle_that_it_is_recorded_with() -> None:
    rig = Rig()
    rig.board.input.enter(b"a")
    assert rig.board.next_event() == 1 and rig.board.input.entries == []
    rig.wait(1)
    assert rig.board.input.entries == [Entry(1, b"a")]


def test_live_input_beyond_the_room_is_refused() -> None:
    rig = Rig()
    rig.board.input.enter(bytes(4000))
    assert rig.board.input.room == 96
    with pytest.raises(ValueError, match="input of 97 bytes, room for 96"):
        rig.board.input.enter(bytes(97))


@pytest.mark.parametrize("entries", [[Entry(5, b"a")], [Entry(20, b"a"), Entry(19, b"b")]])
def test_entries_of_the_past_are_refused(entries: list[Entry]) -> None:
    rig = Rig()
    rig.wait(10)
    with pytest.raises(ValueError, match="input log: an entry for cycle"):
        rig.board.input.replay(entries)
    assert rig.board.next_event() is None


@pytest.mark.parametrize("line", ["12", "x 00", "12 0g", "12 00 00", ""])
def test_a_damaged_log_names_its_file_and_line(tmp_path: Path, line: str) -> None:
    log = tmp_path / "keys"
    log.write_text(f"seed 0\n10 61\n{line}\n")
    with pytest.raises(ValueError, match="keys:3: not an entry of an input log"):
        read_file(log)


@pytest.mark.parametrize("text", ["", "10 61\n", "seed\n", "seed -1\n", "seed 0x5\n"])
def test_a_log_without_a_seed_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(ValueError, match="keys:1: not the seed"):
        read_file(tmp_path / "keys")
