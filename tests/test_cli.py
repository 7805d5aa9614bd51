"""What the command line promises: options, exit statuses, where output goes, what the reports hold."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from figures import without_host_time

from hvmx import guests
from hvmx.cli import Status, main
from hvmx.hvm.console import KeySource
from hvmx.machine import Machine

ORIGIN: Final = 0x7C00
DEBUG_EXIT: Final = 0xF4

# Guests of a few bytes, entered with 32 bits at ORIGIN.
HALT = bytes.fromhex("fa f4")  # cli; hlt
SPIN = bytes.fromhex("eb fe")
SPIN_ON_PORTS = bytes.fromhex("e4 80 eb fc")  # in al, 0x80; jmp
IDLE = bytes.fromhex("fb f4 eb fc")  # sti; hlt; jmp
ANNOUNCE = bytes.fromhex("66 ba f8 03 b0 21 ee")  # mov dx, 0x3f8; mov al, '!'; out dx, al
WRITE_DEBUG_EXIT = bytes.fromhex("b0 03 e6 f4 eb fe")  # mov al, 3; out 0xf4, al
WRITE_DEBUG_CONSOLE = bytes.fromhex("b0 41 e6 e9 fa f4")  # mov al, 'A'; out 0xe9, al
RESET = bytes.fromhex("b0 fe e6 64 eb fe")  # mov al, 0xfe; out 0x64, al
# sub esp, 8; and its zeros as IDT: lidt [esp]; call to: push ebp; mov ebp, esp; ud2
CRASH = bytes.fromhex("bc 00 70 00 00 31 ed 55 55 0f 01 1c 24 e8 00 00 00 00 55 89 e5 0f 0b")
CRASH_AT, CRASH_RETURN = ORIGIN + 21, ORIGIN + 18
# wait for LSR.DR of COM1, read, write, until it was a q; cli; hlt
ECHO = bytes.fromhex("66 ba fd 03 ec a8 01 74 f7 66 ba f8 03 ec ee 3c 71 75 ed fa f4")
FLOOD = bytes.fromhex("66 ba f8 03 b0 0a ee eb fd")  # mov dx, 0x3f8; mov al, 10; and for ever out dx, al
FLOOD_DEBUG_CONSOLE = bytes.fromhex("b0 0a e6 e9 eb fc")  # mov al, 10; and for ever out 0xe9, al
# mov dx, 0x3f8; mov al, '>'; out dx, al; and on as above
PROMPT = bytes.fromhex("66 ba f8 03 b0 3e ee") + ECHO


def flat(tmp_path: Path, code: bytes) -> list[str]:
    """Arguments of ``hvmx`` that run a guest of these bytes."""
    path = tmp_path / "guest.bin"
    path.write_bytes(code)
    return ["run", "--memory", "2M", "--load-address", hex(ORIGIN), str(path)]


def command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "hvmx", *arguments]


# --- statuses -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("code", "options", "status"),
    [
        (HALT, [], Status.GOOD),
        (IDLE, [], Status.GOOD),
        (WRITE_DEBUG_EXIT, ["--debug-exit", hex(DEBUG_EXIT)], 3 << 1 | 1),
        (CRASH, [], Status.CRASH),
        (RESET, [], Status.RESET),
        (SPIN, ["--max-cycles", "1000000"], Status.LIMIT),
        (SPIN_ON_PORTS, ["--max-cycles", "1000000"], Status.LIMIT),
        (SPIN, ["--timeout", "0.2"], Status.LIMIT),
        (SPIN_ON_PORTS, ["--timeout", "0.2"], Status.LIMIT),
        (SPIN, ["--timeout", "0.2", "--trace", "instructions=/dev/null"], Status.LIMIT),
        (SPIN, ["--max-cycles", "100", "--trace", "instructions=/dev/null"], Status.LIMIT),
    ],
)
def test_the_exit_status_says_how_the_run_ended(
    tmp_path: Path, code: bytes, options: list[str], status: int
) -> None:
    arguments = flat(tmp_path, code)
    assert main([*arguments[:1], *options, "--serial", "null", "--quiet", *arguments[1:]]) == status


def test_statuses_are_distinct_and_never_odd() -> None:
    assert len({*Status}) == len(Status.__members__)
    assert all(status % 2 == 0 for status in Status), "odd ones are the guest's"


def test_a_cycle_limit_is_kept_to_within_an_instruction(tmp_path: Path) -> None:
    stats = tmp_path / "stats.json"
    main([*flat(tmp_path, SPIN), "--max-cycles", "123456", "--stats", str(stats), "--quiet"])
    cycles = json.loads(stats.read_text())["guest_cycles"]
    assert 123456 <= cycles < 123456 + 100


@pytest.mark.parametrize("code", [SPIN, SPIN_ON_PORTS, IDLE], ids=["spin", "ports", "idle"])
def test_ctrl_c_stops_any_guest(tmp_path: Path, code: bytes) -> None:
    process = subprocess.Popen(
        command(flat(tmp_path, ANNOUNCE + code)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(1) == b"!", "the guest runs"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == Status.INTERRUPTED
    assert b"hvmx: interrupted" in errors


@pytest.mark.parametrize(
    ("number", "status", "says"),
    [
        (signal.SIGINT, Status.INTERRUPTED, "interrupted"),
        (signal.SIGTERM, Status.STOPPED, "terminated"),
        (signal.SIGHUP, Status.STOPPED, "terminated"),
    ],
)
@pytest.mark.parametrize("code", [SPIN, SPIN_ON_PORTS, IDLE], ids=["spin", "ports", "idle"])
def test_a_signal_leaves_the_terminal_as_it_was_and_the_reports_written(
    tmp_path: Path, code: bytes, number: int, status: Status, says: str
) -> None:
    stats = tmp_path / "stats.json"
    person, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    with subprocess.Popen(
        command([*flat(tmp_path, ANNOUNCE + code), "--stats", str(stats)]),
        stdin=terminal,
        stdout=terminal,
        stderr=subprocess.PIPE,
    ) as process:
        assert os.read(person, 1) == b"!", "the guest runs"
        assert termios.tcgetattr(terminal) != before
        process.send_signal(number)
        try:
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == status
    assert f"hvmx: {says}" in errors.decode()
    assert termios.tcgetattr(terminal) == before
    counts = json.loads(stats.read_text())
    assert counts["stop"] is None and counts["guest_cycles"] > 0
    os.close(person)
    os.close(terminal)


def test_sigterm_ends_what_waits_for_its_image(tmp_path: Path) -> None:
    image = tmp_path / "image"
    os.mkfifo(image)
    with subprocess.Popen(command(["run", str(image)])) as process:
        writer = opened_for_writing(image)
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == Status.STOPPED
    os.close(writer)


def opened_for_writing(fifo: Path, seconds: float = 20) -> int:
    """A descriptor, once somebody reads."""
    end = time.monotonic() + seconds
    while True:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as problem:
            assert problem.errno == errno.ENXIO and time.monotonic() < end, problem
        time.sleep(0.01)


def test_a_guest_that_waits_for_input_stops_at_the_timeout(tmp_path: Path) -> None:
    with subprocess.Popen(
        command([*flat(tmp_path, IDLE), "--timeout", "0.3"]), stdin=subprocess.PIPE
    ) as process:
        assert process.wait(timeout=20) == Status.LIMIT


# --- options and images -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--memory", "12"], "memory of 12 bytes: it must be at least 1M and whole pages of 4096 bytes"),
        (["--memory", "999999999G"], "no room for guest memory of"),
        (["--memory", "99999999999999999999G"], "more than this host has addresses for"),
        (["--memory", "lots"], "'lots' is not a number"),
        (["--profile", "nowhere"], "profile nowhere: cannot be read"),
        (["--paging", "none"], "'none' is not one of"),
        (["--pv", "--paging", "ept"], "--paging is for HVM"),
        (["--debug-exit", "65536"], "65536 is not within 0x0 and 0xffff"),
        (["--debug-exit", "0x10000"], "0x10000 is not within 0x0 and 0xffff"),
        (["--debug-exit", "0x3f8"], "overlaps"),
        (["--debugcon", "x=f"], "'x' is not a number"),
        (["--max-cycles", "0"], "0 is not within 1 and 9223372036854775807"),
        (["--max-cycles", "0x8000000000000000"], "0x8000000000000000 is not within 1 and 9223372036854775807"),
        (["--seed", "-1"], "-1 is not within 0 and 18446744073709551615"),
        (["--timeout", "-1"], "-1 is not a positive number of seconds"),
        (["--timeout", "nan"], "nan is not a positive number of seconds"),
        (["--timeout", "1e300"], "1e300 is not a positive number of seconds up to 1e+09"),
        (["--debug-exit", "0xffff"], "0xffff is no range of the port bus"),
        (["--stats", ""], "--stats: : cannot be written"),
        (["--trace", "everything"], "'everything' is none of exits, hypercalls, instructions"),
        (["--serial", "/nowhere/at/all"], "--serial: /nowhere/at/all: cannot be written"),
        (["--stats", "/nowhere/at/all"], "--stats: /nowhere/at/all: cannot be written"),
        (["--record", "/nowhere/at/all"], "--record: /nowhere/at/all: cannot be written"),
        (["--replay", "/nowhere/at/all"], "--replay: [Errno 2] No such file or directory"),
        (["--trace", "exits=/nowhere/at/all"], "--trace: /nowhere/at/all: cannot be written"),
        (["--debugcon", "0xe9=/nowhere/at/all"], "--debugcon: /nowhere/at/all: cannot be written"),
        (["--colour"], "No such option"),
    ],
)
def test_a_bad_option_is_named_with_its_value(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    assert main([*flat(tmp_path, HALT), *options]) == Status.BAD_OPTION
    assert says in " ".join(capfd.readouterr().err.split())


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        (b"no image at all", [], "no known format"),
        (b"\x7fELF", [], "guest"),
        (b"", [], "the file is empty"),
        (b"", ["--pv"], "the file is empty"),
        (HALT, ["--load-address", "0x80000000"], "0x80000000"),
        (HALT, ["--bits", "32", "--append", "x"], "a flat binary takes no"),
    ],
)
def test_a_bad_image_is_named_with_what_is_wrong(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes, options: list[str], says: str
) -> None:
    path = tmp_path / "guest"
    path.write_bytes(content)
    assert main(["run", *options, str(path)]) == Status.BAD_IMAGE
    errors = capfd.readouterr().err
    assert says in errors
    assert str(path) in errors


def test_an_image_that_is_not_there_is_a_bad_image(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "/nowhere/kernel"]) == Status.BAD_IMAGE
    assert "/nowhere/kernel: cannot be read" in capfd.readouterr().err


@pytest.mark.parametrize("length", [300, 5000])
def test_a_name_too_long_for_a_file_is_a_bad_image(capfd: pytest.CaptureFixture[str], length: int) -> None:
    assert main(["run", "x" * length]) == Status.BAD_IMAGE
    assert "xxx: cannot be read: File name too long" in capfd.readouterr().err


def test_an_initrd_is_read_whatever_memory_the_guest_has(tmp_path: Path) -> None:
    (tmp_path / "initrd").write_bytes(b"little")
    image = Path(flat(tmp_path, HALT)[-1])
    header = (0x1BADB002, 0x10000, -0x1BADB002 - 0x10000 & 0xFFFFFFFF, 1 << 20, 1 << 20, 0, 0, (1 << 20) + 32)
    image.write_bytes(b"".join(word.to_bytes(4, "little") for word in header) + HALT)  # Multiboot
    arguments = ["run", "--quiet", "--memory", "1000G", "--initrd", str(tmp_path / "initrd"), str(image)]
    assert main(arguments) == Status.GOOD


def test_a_64_bit_image_for_a_32_bit_processor_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = [*flat(tmp_path, HALT), "--bits", "64", "--cpu", "pentium"]
    assert main(arguments) == Status.BAD_IMAGE
    assert f"hvmx: {arguments[5]}: flat binary" in capfd.readouterr().err


def test_the_version_and_the_help_are_there(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == Status.GOOD
    assert capfd.readouterr().out.startswith("hvmx, version")
    assert main(["run", "--help"]) == Status.GOOD
    text = capfd.readouterr().out
    for option in [
        "--pv",
        "--memory",
        "--profile",
        "--paging",
        "--append",
        "--initrd",
        "--module",
        "--bios",
        "--serial",
        "--debug-exit",
        "--debugcon",
        "--max-cycles",
        "--timeout",
        "--stats",
        "--hash",
        "--trace",
        "--quiet",
        "--load-address",
        "--entry",
        "--bits",
        "--no-decompress",
    ]:
        assert f"{option} " in text
    for status in Status:
        assert f" {status.value} " in text, f"the help says nothing of status {status.value}"


def test_python_m_hvmx_is_the_same_command() -> None:
    result = subprocess.run(command(["--version"]), check=True, capture_output=True, text=True)
    assert result.stdout.startswith("hvmx, version")


# --- where output goes --------------------------------------------------------------------------------------------------
def test_standard_output_is_the_console_and_nothing_else(tmp_path: Path) -> None:
    result = subprocess.run(
        command(flat(tmp_path, ECHO)), check=True, input=b"keys\x00\xff\nq", capture_output=True
    )
    assert result.stdout == b"keys\x00\xff\nq"
    assert b"VM-EXIT" in result.stderr


def test_standard_input_reaches_a_pv_guests_console() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"keys")
    os.close(writer)
    console = bytearray()
    with KeySource(reader) as keys:
        machine = Machine("64M", serial=console.extend, keys=keys)
        machine.load(guests.image("pv64"), pv=True)
        # 1: console_io(read, 1, here); test eax, eax; jz 1b; console_io(write, 1, here); jmp 1b; here:
        code = bytes.fromhex(
            "b8 12 00 00 00 bf 01 00 00 00 be 01 00 00 00 48 8d 15 19 00 00 00 0f 05 85 c0 74 e4"
            "b8 12 00 00 00 bf 00 00 00 00 be 01 00 00 00 0f 05 eb d1"
        )
        physical = machine.cpu.translate(machine.cpu.rip)
        assert physical is not None
        machine.cpu.write(physical, code)
        machine.run(cycles=200_000_000)
    os.close(reader)
    assert console == b"keys"


def test_a_prompt_is_out_before_input_is_looked_for(tmp_path: Path) -> None:
    with subprocess.Popen(
        command([*flat(tmp_path, PROMPT), "--quiet"]), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 20)
        assert ready, "the prompt has no newline, and is not out"
        assert process.communicate(b"q", timeout=20)[0] == b">q"


def test_a_recorded_run_comes_back_the_same(tmp_path: Path) -> None:
    log, live, again = (tmp_path / name for name in ("log", "live.json", "again.json"))
    arguments = [*flat(tmp_path, PROMPT), "--seed", "5", "--hash", "--stats"]
    with subprocess.Popen(
        command([*arguments, str(live), "--record", str(log)]), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.read(1) == b">"
        process.stdin.write(b"keys ")
        process.stdin.flush()
        time.sleep(0.1)
        output, _ = process.communicate(b"and q", timeout=20)
    result = subprocess.run(
        command([*arguments, str(again), "--replay", str(log)]), check=True, input=b"other keys", capture_output=True
    )
    assert output == b"keys and q" and result.stdout == b">" + output
    assert len(log.read_text().splitlines()) >= 3

    first, second = (without_host_time(json.loads(path.read_text())) for path in (live, again))
    assert first == second


def test_a_replay_with_another_seed_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("seed 5\n")
    arguments = command([*flat(tmp_path, PROMPT), "--replay", str(log)])
    result = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert result.returncode == 2
    assert "log: was recorded with --seed 5\n" in result.stderr


def test_quiet_says_nothing(tmp_path: Path) -> None:
    result = subprocess.run(
        command([*flat(tmp_path, ECHO), "--quiet"]), check=True, input=b"q", capture_output=True
    )
    assert (result.stdout, result.stderr) == (b"q", b"")


def test_serial_and_debug_console_go_to_their_files(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    console = tmp_path / "console"
    arguments = flat(tmp_path, WRITE_DEBUG_CONSOLE)
    assert main([*arguments, "--debugcon", f"0xe9={console}", "--quiet"]) == Status.GOOD
    assert console.read_bytes() == b"A"
    assert main([*arguments, "--debugcon", "0xe9", "--quiet"]) == Status.GOOD
    assert capfd.readouterr() == ("", "A")


def test_a_reader_that_goes_away_stops_the_run(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        command([*flat(tmp_path, ECHO), "--quiet"]),
        check=False,
        input=b"\nq",
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    assert result.returncode == Status.STOPPED
    assert result.stderr == b"hvmx: nobody reads standard output any more\n"


@pytest.mark.parametrize(
    ("code", "options", "stalled"),
    [(FLOOD, [], "stdout"), (FLOOD_DEBUG_CONSOLE, ["--debugcon", "0xe9"], "stderr")],
    ids=["stdout", "stderr"],
)
def test_the_timeout_stops_a_guest_whose_output_nobody_takes(
    tmp_path: Path, code: bytes, options: list[str], stalled: str
) -> None:
    arguments = command([*flat(tmp_path, code), *options, "--timeout", "1", "--quiet"])
    read, write = os.pipe()
    try:
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, **{stalled: write})
        assert process.wait(timeout=20) == Status.LIMIT
        os.close(write)
        with open(read, "rb", closefd=False) as pipe:
            assert set(pipe.read()) == {ord("\n")}, "something else than the guest's output"
    finally:
        os.close(read)


@pytest.mark.parametrize("arguments", [["isa"], ["compare", "--json"]], ids=" ".join)
def test_a_reader_that_has_read_enough_ends_the_command(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    with subprocess.Popen(command(arguments), stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        os.close(reader)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == Status.STOPPED
    assert errors == b"hvmx: nobody reads standard output any more\n"


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full to write to")
@pytest.mark.parametrize("option", ["--stats", "--record", "--serial", "exits", "instructions", "debugcon"])
def test_a_file_that_cannot_be_written_to_the_end_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], option: str
) -> None:
    options = {
        "exits": ["--trace", f"exits={FULL}"],
        "hypercalls": ["--pv", "--trace", f"hypercalls={FULL}"],
        "instructions": ["--trace", f"instructions={FULL}"],
        "debugcon": ["--debugcon", f"0xe9={FULL}"],
    }.get(option, [option, str(FULL)])
    assert main([*flat(tmp_path, ANNOUNCE + WRITE_DEBUG_CONSOLE), *options]) == Status.UNWRITABLE
    errors = capfd.readouterr().err
    assert errors.endswith("hvmx: /dev/full: cannot be written: No space left on device\n")
    assert "Traceback" not in errors and "interrupted" not in errors


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full to write to")
@pytest.mark.parametrize("arguments", [["run", "test-hvm64-cpuid"], ["compare", "cpuid"], ["isa"]], ids=" ".join)
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_standard_output_or_error_that_is_full_is_no_good_end(arguments: list[str], stream: str) -> None:
    with FULL.open("wb") as full:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: full}
        result = subprocess.run(command(arguments), check=False, stdin=subprocess.DEVNULL, **streams)
    if stream == "stderr" and arguments[0] != "run":
        assert result.returncode == Status.GOOD, "nothing is said there"
        return
    assert result.returncode == Status.UNWRITABLE
    if stream == "stdout":
        assert b"hvmx: standard output or error: cannot be written: No space left on device\n" in result.stderr
        assert b"Traceback" not in result.stderr and b"Exception ignored" not in result.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_standard_stream_that_is_closed_is_done_without(tmp_path: Path, closed: str) -> None:
    stats = tmp_path / "stats.json"
    guest = flat(tmp_path, ANNOUNCE + WRITE_DEBUG_CONSOLE[:-2] + IDLE)
    arguments = command([*guest, "--stats", str(stats), "--debugcon", "0xe9"])
    process = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *arguments], check=False, capture_output=True)
    assert process.returncode == Status.GOOD, process.stderr
    assert json.loads(stats.read_text())["stop"] == "halted"
    assert process.stdout == (b"" if ">&-" in closed.split() else b"!")


# --- reports ------------------------------------------------------------------------------------------------------------
def test_a_crash_is_explained(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*flat(tmp_path, CRASH), "--quiet"]) == Status.CRASH
    report = capfd.readouterr().err
    assert "guest crash: triple fault" in report
    assert f"rip {CRASH_AT:#018x}" in report
    assert f"{CRASH_AT:#018x}  0f 0b {'':<24}  ud2" in report, "the instruction, disassembled"
    innermost = report.split("innermost first:")[1].split()[0]
    assert int(innermost, 16) == CRASH_RETURN
    assert "TRIPLE_FAULT" in report.split("last exits")[1]


def test_a_run_says_what_its_caches_found_or_that_there_are_none(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stats = tmp_path / "stats.json"
    # mov al, [0x200]; mov [0x200], al
    code = bytes.fromhex("a000020000 a200020000") + WRITE_DEBUG_EXIT
    arguments = [*flat(tmp_path, code), "--debug-exit", hex(DEBUG_EXIT), "--stats", str(stats)]
    main(arguments)
    assert "caches: not modelled, every access hits the first level" in capfd.readouterr().err
    assert json.loads(stats.read_text())["caches"] is None
    main([*arguments, "--no-caches"])
    assert "caches: not modelled" in capfd.readouterr().err
    main([*arguments, "--caches"])
    assert "caches: 2 accesses to data, found 1 in L1, 0 in L2, 0 in L3, 1 in memory" in capfd.readouterr().err
    counts = json.loads(stats.read_text())["caches"]
    assert (counts["l1"], counts["memory"]) == (1, 1)


def test_statistics_hold_what_the_run_counted(tmp_path: Path) -> None:
    stats = tmp_path / "stats.json"
    arguments = [*flat(tmp_path, WRITE_DEBUG_EXIT), "--debug-exit", hex(DEBUG_EXIT), "--quiet"]
    main([*arguments, "--stats", str(stats)])
    counts = json.loads(stats.read_text())
    for name in ("guest_cycles", "instructions", "hypercalls", "tlb_misses", "walk_references"):
        assert isinstance(counts[name], int), name
    assert counts["host_seconds"] > 0
    assert counts["stop"] == "debug_exit"
    made = {"profile": "skylake", "cpu": "x86-64-v2", "paging": "ept", "memory_bytes": 2 << 20, "seed": 0}
    assert made.items() <= counts.items()
    assert counts["exits"]["IO_INSTRUCTION"]["count"] == 1
    assert counts["exits"]["IO_INSTRUCTION"]["detail"]["port 0xf4"]["count"] == 1
    assert "hash" not in counts


def names_in(data: object) -> Iterator[str]:
    """All names of a JSON object, to any depth."""
    if isinstance(data, dict):
        for name, value in data.items():
            yield name
            yield from names_in(value)


def test_statistics_name_guest_cycles_and_host_time_apart(tmp_path: Path) -> None:
    stats = tmp_path / "stats.json"
    main([*flat(tmp_path, WRITE_DEBUG_EXIT), "--debug-exit", hex(DEBUG_EXIT), "--quiet", "--stats", str(stats)])
    for name in names_in(json.loads(stats.read_text())):
        assert "cycles" not in name or "guest_cycles" in name, name
        assert not re.search(r"(_|^)(ns|seconds|time)(_|$)", name) or name.startswith("host_"), name
        assert not ("guest" in name and "host" in name), name


def test_the_summary_says_guest_cycles_and_host_time_in_lines_of_their_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    main([*flat(tmp_path, WRITE_DEBUG_EXIT), "--debug-exit", hex(DEBUG_EXIT)])
    said = capfd.readouterr().err
    assert "hvmx: the guest wrote 0x3 to the debug-exit port\n" in said
    *_, cycles, _, caches, host = said.splitlines()
    assert "guest cycles" in cycles and "host time" not in cycles
    assert caches == "caches: not modelled, every access hits the first level"
    assert "host time" in host and "cycles" not in host


def test_the_readme_names_every_figure_of_the_statistics(tmp_path: Path) -> None:
    stats = tmp_path / "stats.json"
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    main(["run", "--quiet", "--serial", "null", "--hash", "--stats", str(stats), "test-pv64-console"])
    counts = json.loads(stats.read_text())
    assert counts["exits"] and counts["hypercalls_by_name"]
    for name in (*counts, *next(iter(counts["exits"].values()))):
        assert f"`{name}`" in readme, name


def test_two_runs_have_the_same_cycles_exits_and_hash(tmp_path: Path) -> None:
    runs = []
    for number in range(2):
        stats = tmp_path / f"stats{number}.json"
        assert (
            main(["run", "--quiet", "--serial", "null", "--hash", "--stats", str(stats), "hvmx-hvm64"]) == 0
        )
        counts = json.loads(stats.read_text())
        assert len(counts["hash"]) == 64
        runs.append(without_host_time(counts))
    assert runs[0] == runs[1]


def test_a_trace_of_instructions_disassembles_each(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    main([*flat(tmp_path, HALT), "--quiet", "--trace", f"instructions={trace}"])
    lines = [line.split(maxsplit=2) for line in trace.read_text().splitlines()]
    assert [(int(address, 16), text.split()[-1]) for _, address, text in lines] == [
        (ORIGIN, "cli"),
        (ORIGIN + 1, "hlt"),
    ]


def test_a_trace_of_exits_names_each_with_its_data(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    arguments = [*flat(tmp_path, WRITE_DEBUG_EXIT), "--debug-exit", hex(DEBUG_EXIT), "--quiet"]
    main([*arguments, "--trace", f"exits={trace}"])
    assert "IO_INSTRUCTION port 0xf4 write 1 bytes: 0x3" in trace.read_text()


def test_a_trace_of_hypercalls_has_a_line_for_each_with_its_arguments_and_result(tmp_path: Path) -> None:
    trace, stats = tmp_path / "trace", tmp_path / "stats"
    arguments = ["run", "--pv", "--quiet", "--serial", "null", "--append", "checks=no workloads=pgfault"]
    main([*arguments, "--trace", f"hypercalls={trace}", "--stats", str(stats)])
    calls = [line.split(maxsplit=2) for line in trace.read_text().splitlines()]
    counts = {name: row["count"] for name, row in json.loads(stats.read_text())["hypercalls_by_name"].items()}
    assert Counter(call.split("(")[0] for _, _, call in calls) == counts
    cycles = [int(cycle) for cycle, _, _ in calls]
    assert cycles == sorted(cycles)
    assert calls[-1][2] == "sched_op(shutdown, " + calls[-1][2].split(", ")[1]
    assert re.fullmatch(r"console_io\(write, 0x[0-9a-f]+, 0xffffffff8[0-9a-f]+\) = 0", next(
        call for _, _, call in calls if call.startswith("console_io")
    ))  # fmt: skip


def test_a_trace_of_vmcalls_names_kvms(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    # mov eax, 5; vmcall; mov eax, 99; vmcall; hlt
    code = bytes.fromhex("66b805000000 0f01c1 66b863000000 0f01c1 f4")
    main([*flat(tmp_path, code), "--quiet", "--trace", f"hypercalls={trace}"])
    calls = [line.split(maxsplit=2)[2] for line in trace.read_text().splitlines()]
    assert re.fullmatch(r"kick_cpu\((0x[0-9a-f]+(, )?){4}\) = 0", calls[0])
    assert calls[1].startswith("hypercall 99(")


def test_a_trace_of_memory_exits_names_the_address_and_no_port(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    code = bytes.fromhex("e4 60 a2 23 81 0b 00 fa f4")  # in al, 0x60; mov [0xb8123], al; cli; hlt
    main([*flat(tmp_path, code), "--quiet", "--trace", f"exits={trace}"])
    reasons = [line.split(maxsplit=2)[2] for line in trace.read_text().splitlines()]
    assert reasons == [
        f"EPT_VIOLATION {ORIGIN:#x} linear {ORIGIN:#x}",
        "IO_INSTRUCTION port 0x60 read 1 bytes: 0x0",
        "EPT_MISCONFIG 0xb8123 write 1 bytes: 0x0",
        "HLT",
    ]


def test_a_trace_changes_nothing_in_guest_cycles(tmp_path: Path) -> None:
    cycles = []
    for options in ([], ["--trace", "exits=/dev/null"], ["--trace", "instructions=/dev/null"]):
        stats = tmp_path / "stats.json"
        main([*flat(tmp_path, WRITE_DEBUG_CONSOLE), "--quiet", "--stats", str(stats), *options])
        cycles.append(json.loads(stats.read_text())["guest_cycles"])
    assert cycles[0] > 0
    assert cycles == [cycles[0]] * 3


# --- bundled guests -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "name"),
    [([], "hvm64"), (["--pv"], "pv64"), (["hvmx-hvm32"], "hvm32"), (["hvmx-pv64"], "pv64")],
    ids=["hvm by default", "pv by default", "hvm32 by name", "pv64 by name"],
)
def test_a_bundled_guest_runs_by_name_and_passes_its_checks(
    capfd: pytest.CaptureFixture[str], arguments: list[str], name: str
) -> None:
    assert main(["run", "--quiet", *arguments]) == Status.GOOD
    console = capfd.readouterr().out
    assert f"guest {name} done, 0 checks failed" in console
    assert tuple(guests.parse_benches(console)) == tuple(guests.WORKLOADS)


@pytest.mark.parametrize("name", ["hvm32", "hvm64", "pv64"])
def test_one_workload_of_a_bundled_guest_runs_by_name(capfd: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["run", "--quiet", "--append", "checks=no", f"test-{name}-pgfault"]) == Status.GOOD
    assert list(guests.parse_benches(capfd.readouterr().out)) == ["pgfault"]


def test_a_workload_that_is_not_there_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "test-hvm64-nothing"]) == Status.BAD_OPTION
    assert "no workload 'nothing': there are syscall" in capfd.readouterr().err


def test_isa_answers_one_question_at_a_time(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["isa", "--missing", "--outside"]) == Status.BAD_OPTION
    assert "--missing, --outside and --where" in capfd.readouterr().err


def test_isa_says_where_an_operation_is_executed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["isa", "--where", "ADCX"]) == Status.BAD_OPTION
    assert "no operation 'ADCX'" in capfd.readouterr().err
    assert main(["isa", "--where", "cpuid"]) == Status.GOOD
    row, handler = capfd.readouterr().out.splitlines()
    assert row.split() == ["0F", "A2", "cpuid"]
    assert handler.split() == ["cpuid", "execute/system/system.pyx", "any", "NONE", "ALL"]
