"""What ``hvmx run`` writes is written late, whole, and never onto what it reads."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from test_cli import ANNOUNCE, CRASH, ECHO, FULL, HALT, SPIN, command, flat

from hvmx.cli import Status, main

KEPT = "what was there\n"


def says_something(tmp_path: Path) -> list[str]:
    """A run that has something to write to each kind of file, and a status of its own."""
    return flat(tmp_path, ANNOUNCE + HALT)


def options_for(option: str, path: Path | str) -> list[str]:
    """Options that name a file to write."""
    return {
        "trace": ["--trace", f"exits={path}"],
        "debugcon": ["--debugcon", f"0xe9={path}"],
        "hot": [f"--hot={path}"],
    }.get(option, [f"--{option}", str(path)])


OUTPUTS = ["serial", "debugcon", "trace", "stats", "record", "hot", "perfetto"]


# --- when ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("option", OUTPUTS)
@pytest.mark.parametrize("image", ["nowhere", "no image"])
def test_an_image_that_cannot_be_run_leaves_the_last_files_as_they_were(
    tmp_path: Path, option: str, image: str
) -> None:
    output = tmp_path / "output"
    output.write_text(KEPT)
    (tmp_path / "no image").write_text("no image at all")
    assert main(["run", *options_for(option, output), str(tmp_path / image)]) == Status.BAD_IMAGE
    assert output.read_text() == KEPT


@pytest.mark.parametrize("option", OUTPUTS)
def test_a_bad_option_leaves_the_last_files_as_they_were(tmp_path: Path, option: str) -> None:
    output = tmp_path / "output"
    output.write_text(KEPT)
    arguments = [*says_something(tmp_path), *options_for(option, output), "--debug-exit", "0x3f8"]
    assert main(arguments) == Status.BAD_OPTION
    assert output.read_text() == KEPT


@pytest.mark.parametrize("bad", ["stats", "record", "debugcon", "trace", "serial", "hot", "perfetto"])
def test_an_output_that_cannot_be_leaves_the_others_as_they_were(tmp_path: Path, bad: str) -> None:
    good = {option: tmp_path / option for option in OUTPUTS if option != bad}
    for path in good.values():
        path.write_text(KEPT)
    options = [word for option, path in good.items() for word in options_for(option, path)]
    arguments = [*says_something(tmp_path), *options, *options_for(bad, "/nowhere/at/all")]
    assert main(arguments) == Status.BAD_OPTION
    assert {path.read_text() for path in good.values()} == {KEPT}


def test_a_reader_that_does_not_come_leaves_the_other_files_as_they_were(tmp_path: Path) -> None:
    kept, fifo = tmp_path / "kept", tmp_path / "fifo"
    kept.write_text(KEPT)
    os.mkfifo(fifo)
    options = [*options_for("serial", kept), *options_for("trace", fifo), "--timeout", "0.5"]
    assert main([*says_something(tmp_path), *options]) == Status.LIMIT
    assert kept.read_text() == KEPT


# --- onto what ----------------------------------------------------------------------------------------------------------
PROFILE = (Path(__file__).parents[1] / "src/hvmx/cost/skylake.toml").read_bytes()


@pytest.mark.parametrize("option", OUTPUTS)
@pytest.mark.parametrize("read", ["image", "bios", "initrd", "module", "profile", "replay"])
@pytest.mark.parametrize("link", ["same name", "symlink", "hard link"])
def test_no_output_goes_onto_an_input(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], option: str, read: str, link: str
) -> None:
    content = {"profile": PROFILE, "replay": b"seed 0\n"}.get(read, HALT)
    file, output = tmp_path / "input", tmp_path / "output"
    file.write_bytes(content)
    if link == "same name":
        output = tmp_path / "." / ".." / tmp_path.name / "input"
    elif link == "symlink":
        output.symlink_to(file)
    else:
        output.hardlink_to(file)
    arguments = (
        ["run", str(file), "--bits", "32"]
        if read == "image"
        else [*flat(tmp_path, HALT), f"--{read}", str(file)]
    )
    assert main([*arguments, *options_for(option, output)]) == Status.BAD_OPTION
    assert f"--{option}: {output}: is {'the image' if read == 'image' else f'--{read}'}" in " ".join(
        capfd.readouterr().err.split()
    )
    assert file.read_bytes() == content


def test_no_output_goes_onto_standard_input(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("q")
    with keys.open() as stdin:
        arguments = command([*flat(tmp_path, ECHO), "--record", str(keys)])
        result = subprocess.run(arguments, check=False, stdin=stdin, capture_output=True, text=True)
    assert result.returncode == Status.BAD_OPTION
    assert f"--record: {keys}: is standard input too" in result.stderr
    assert keys.read_text() == "q"


def test_standard_output_goes_onto_no_input_either(tmp_path: Path) -> None:
    arguments = flat(tmp_path, ANNOUNCE + HALT)
    image = Path(arguments[-1])
    with image.open("ab") as stdout:
        result = subprocess.run(
            command(arguments),
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert result.returncode == Status.BAD_OPTION
    assert "standard output or error is the image too" in result.stderr
    assert image.read_bytes() == ANNOUNCE + HALT


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("pair", [("serial", "stats"), ("trace", "debugcon"), ("stats", "record")])
def test_no_two_outputs_are_one_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], pair: tuple[str, str], there: bool
) -> None:
    output, link = tmp_path / "output", tmp_path / "link"
    link.symlink_to(output)
    if there:
        output.write_text(KEPT)
    options = [*options_for(pair[0], output), *options_for(pair[1], link)]
    assert main([*says_something(tmp_path), *options]) == Status.BAD_OPTION
    said = " ".join(capfd.readouterr().err.split())
    assert any(
        f"--{option}: " in said and f"is --{other} too" in said for option, other in (pair, pair[::-1])
    )
    assert output.read_text() == KEPT if there else not output.exists()


def test_devices_take_any_number_of_outputs(tmp_path: Path) -> None:
    options = [word for option in OUTPUTS for word in options_for(option, "/dev/null")]
    assert main([*says_something(tmp_path), *options, "--quiet"]) == Status.GOOD


# --- whole or not at all ------------------------------------------------------------------------------------------------
def test_statistics_take_the_place_of_the_last_ones_at_the_end(tmp_path: Path) -> None:
    real, stats = tmp_path / "folder" / "real.json", tmp_path / "stats.json"
    real.parent.mkdir()
    real.write_text(KEPT)
    real.chmod(0o640)
    stats.symlink_to(real)
    with subprocess.Popen(
        command([*flat(tmp_path, ANNOUNCE + ECHO), "--quiet", "--stats", str(stats)]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"!", "the guest runs"
        assert real.read_text() == KEPT
        before = real.open()
        process.communicate(b"q", timeout=20)
    assert before.read() == KEPT, "who has it open has the old one whole"
    before.close()
    assert json.loads(real.read_text())["stop"] == "halted"
    assert real.stat().st_mode & 0o777 == 0o640 and stats.is_symlink()
    assert [path.name for path in real.parent.iterdir()] == ["real.json"], "and nothing else is left there"


@pytest.mark.parametrize("option", ["stats", "record", "perfetto"])
def test_a_report_that_cannot_be_made_whole_leaves_the_last_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    output = tmp_path / "folder" / "output"
    output.parent.mkdir()
    output.write_text(KEPT)

    def refuse(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    assert main([*says_something(tmp_path), *options_for(option, output)]) == Status.UNWRITABLE
    said = capfd.readouterr().err
    assert said.endswith(f"hvmx: {output}: cannot be written: No space left on device\n")
    assert "s of host time" in said, "the rest is said all the same"
    assert output.read_text() == KEPT
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_file_that_may_not_be_written_is_not_replaced(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stats = tmp_path / "stats.json"
    stats.write_text(KEPT)
    stats.chmod(0o444)
    assert main([*says_something(tmp_path), "--stats", str(stats)]) == Status.BAD_OPTION
    assert "cannot be written: Permission denied" in " ".join(capfd.readouterr().err.split())
    assert stats.read_text() == KEPT


@pytest.mark.parametrize("option", ["stats", "record", "perfetto"])
def test_a_report_to_a_pipe_is_written_to_it(tmp_path: Path, option: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE) as reader:
        assert (
            main([*says_something(tmp_path), "--quiet", "--timeout", "20", *options_for(option, fifo)])
            == Status.GOOD
        )
        said, _ = reader.communicate(timeout=20)
    if option == "stats":
        assert json.loads(said)["stop"] == "halted"
    else:
        assert said == b"seed 0\n" if option == "record" else b"guest cycle" in said
    assert fifo.is_fifo()


# --- standard error -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["-", "/dev/stderr"])
@pytest.mark.parametrize("kept_in_a_file", [True, False], ids=["file", "pipe"])
def test_reports_go_to_standard_error_beside_what_else_is_said(
    tmp_path: Path, name: str, kept_in_a_file: bool
) -> None:
    arguments = command([*flat(tmp_path, ANNOUNCE + CRASH), "--trace", f"exits={name}", "--stats", name])
    log = tmp_path / "log"
    with log.open("wb") as file:
        stderr = file if kept_in_a_file else subprocess.PIPE
        result = subprocess.run(
            arguments, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr
        )
    assert (result.returncode, result.stdout) == (Status.CRASH, b"!")
    said = log.read_text() if kept_in_a_file else result.stderr.decode()
    trace, crash, counts, table = (
        said.index(text)
        for text in ("IO_INSTRUCTION port 0x3f8", "guest crash", '"stop": "triple_fault"', "VM-EXIT")
    )
    assert trace < crash < counts < table
    assert not Path("-").exists(), "and to no file"


def test_the_serial_port_has_no_file_called_dash(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*says_something(tmp_path), "--serial", "-"]) == Status.BAD_OPTION
    assert "are called stdio" in " ".join(capfd.readouterr().err.split())


# --- how long it waits --------------------------------------------------------------------------------------------------
def within(seconds: float, arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """A run whose time counts from when it starts, less what Python takes for that."""
    begin = time.monotonic()
    result = subprocess.run(
        command(arguments), check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=20 + seconds
    )
    assert time.monotonic() - begin < seconds + 15
    return result


@pytest.mark.parametrize("option", OUTPUTS)
def test_a_pipe_without_a_reader_does_not_outlast_the_timeout(tmp_path: Path, option: str) -> None:
    fifo, stats = tmp_path / "fifo", tmp_path / "stats.json"
    os.mkfifo(fifo)
    result = within(0.5, [*flat(tmp_path, SPIN), *options_for(option, fifo), "--timeout", "0.5"])
    assert result.returncode == Status.LIMIT
    assert result.stderr == b"hvmx: timeout, before the guest was loaded and its files were open\n"
    assert not stats.exists()


@pytest.mark.parametrize("option", ["image", "--initrd", "--module", "--bios"])
def test_an_input_without_a_writer_does_not_outlast_the_timeout(tmp_path: Path, option: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    arguments = ["run", str(fifo)] if option == "image" else ["run", option, str(fifo)]
    if option in ("--initrd", "--module"):
        arguments.append("hvmx-hvm64")
    assert within(0.5, [*arguments, "--timeout", "0.5"]).returncode == Status.LIMIT


@pytest.mark.parametrize("option", ["trace", "stats"])
def test_a_reader_that_does_not_read_does_not_outlast_the_timeout(tmp_path: Path, option: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    stuck = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    try:
        while True:
            os.write(stuck, bytes(4096))
    except BlockingIOError:
        pass
    result = within(
        0.5, [*flat(tmp_path, ANNOUNCE + SPIN), *options_for(option, fifo), "--timeout", "0.5", "--quiet"]
    )
    assert result.returncode in (Status.LIMIT, Status.UNWRITABLE)
    assert b"Traceback" not in result.stderr and b"ignored" not in result.stderr
    os.close(stuck)
    os.close(reader)


# --- nowhere to say it --------------------------------------------------------------------------------------------------
@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full to write to")
@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["run", "--help"], ["compare", "--help"], ["isa", "--help"]],
    ids=" ".join,
)
def test_help_that_cannot_be_written_is_said_to_be(arguments: list[str]) -> None:
    with FULL.open("wb") as full:
        result = subprocess.run(command(arguments), check=False, stdout=full, stderr=subprocess.PIPE)
    assert result.returncode == Status.UNWRITABLE
    assert result.stderr == b"hvmx: standard output or error: cannot be written: No space left on device\n"


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full to write to")
@pytest.mark.parametrize("arguments", [["run", "/nowhere"], ["run", "--what"], ["what"]], ids=" ".join)
def test_a_problem_that_cannot_be_said_has_a_status_of_its_own(arguments: list[str]) -> None:
    with FULL.open("wb") as full:
        result = subprocess.run(command(arguments), check=False, stdout=subprocess.PIPE, stderr=full)
    assert (result.returncode, result.stdout) == (Status.UNWRITABLE, b"")
