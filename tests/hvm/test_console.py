"""What the host side of the serial port promises: it never waits, and gives the terminal back."""

from __future__ import annotations

import os
import pty
import termios
import time
from pathlib import Path

import pytest

from hvmx.hvm.console import KeySource, StreamSink, null_sink


def test_a_file_gets_every_byte(tmp_path: Path) -> None:
    sink = StreamSink(tmp_path / "console")
    for byte in b"no newline\x00\xff":
        sink(bytes((byte,)))
    sink.flush()
    assert (tmp_path / "console").read_bytes() == b"no newline\x00\xff"
    sink.close()


def test_a_line_is_out_when_it_ends(tmp_path: Path) -> None:
    sink = StreamSink(tmp_path / "console")
    sink(b"login")
    sink(b"\n")
    assert (tmp_path / "console").read_bytes() == b"login\n"
    sink.close()


def test_a_file_that_cannot_be_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        StreamSink(tmp_path / "nowhere" / "console")


def test_the_null_sink_takes_anything() -> None:
    null_sink(bytes(range(256)))


def test_waiting_looks_up_now_and_then_so_that_no_signal_is_missed() -> None:
    reader, writer = os.pipe()
    looks: list[float] = []
    with KeySource(reader, flush=lambda: looks.append(time.monotonic())) as keys:
        begin = time.monotonic()
        assert keys.wait(10, 0.9) == b""
        assert 0.9 <= time.monotonic() - begin < 20
    assert len(looks) >= 4
    os.close(reader)
    os.close(writer)


def test_a_pipe_is_polled_without_waiting_and_ends() -> None:
    reader, writer = os.pipe()
    with KeySource(reader) as keys:
        assert keys.poll(10) == b""
        os.write(writer, b"abc\x01x")
        assert keys.poll(0) == b""
        assert keys.poll(2) == b"ab"
        assert keys.poll(10) == b"c\x01x", "a pipe has no escape"
        assert not keys.quit
        os.close(writer)
        assert keys.poll(10) == b""
        assert keys.ended
    os.close(reader)


def test_a_terminal_is_raw_meanwhile_and_restored() -> None:
    leader, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    with KeySource(terminal):
        during = termios.tcgetattr(terminal)
        assert not during[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
        assert during[1] == before[1], "output processing stays"
    assert termios.tcgetattr(terminal) == before
    with pytest.raises(RuntimeError, match="handler"), KeySource(terminal):
        raise RuntimeError("handler")
    assert termios.tcgetattr(terminal) == before
    os.close(leader)
    os.close(terminal)


def test_ctrl_a_x_quits_and_ctrl_a_twice_is_one() -> None:
    leader, terminal = pty.openpty()
    with KeySource(terminal) as keys:
        os.write(leader, b"a\x01\x01b\x03\x01")
        assert keys.poll(100) == b"a\x01b\x03"
        assert not keys.quit
        os.write(leader, b"xc")
        assert keys.poll(100) == b"c"
        assert keys.quit
    os.close(leader)
    os.close(terminal)


def test_waiting_ends_with_input_with_its_end_and_with_time() -> None:
    reader, writer = os.pipe()
    with KeySource(reader) as keys:
        assert keys.wait(10, seconds=0.01) == b""
        assert not keys.ended
        os.write(writer, b"abc")
        assert keys.wait(10) == b"abc"
        os.close(writer)
        assert keys.wait(10) == b""
        assert keys.ended
    os.close(reader)


def test_waiting_goes_on_over_half_an_escape_and_ends_with_a_whole_one() -> None:
    leader, terminal = pty.openpty()
    with KeySource(terminal) as keys:
        os.write(leader, b"\x01")
        assert keys.wait(10, seconds=0.01) == b""
        os.write(leader, b"x")
        assert keys.wait(10) == b""
        assert keys.quit
    os.close(leader)
    os.close(terminal)


def test_a_closed_standard_input_is_one_that_has_ended() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with KeySource(reader) as keys:
        assert keys.ended
        assert keys.poll(10) == keys.wait(10) == b""
