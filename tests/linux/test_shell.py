"""A shell on the serial console of Debian's kernels answers as it does on QEMU's machine, command by command."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from guests import guest
from linux.console import CONTROL_A, CONTROL_C, Console
from linux.initramfs import MARKER
from linux.kernels import (
    KERNELS,
    LIMIT_SECONDS,
    QUIET_COMMAND_LINE,
    assert_same,
    qemu_run_command,
    run_command,
    shell_initramfs,
)

from hvmx.cli import Status

COMMANDS = Path(__file__).with_name("shell_commands.txt").read_text().splitlines()

#: Programs that never end by themselves: one waits for input, one for time, one for nothing.
ENDLESS = ("cat", "sleep 1000000", "while :; do :; done")


def converse(console: Console) -> list[tuple[str, str]]:
    """Types everything that the tests ask: each line with the answer to it."""
    answers = [(line, console.command(line)) for line in COMMANDS]
    for line in ENDLESS:
        console.send(f"echo begun; {line}\n")
        begin = console.read_to("\r\nbegun\r\n")
        time.sleep(0.3)  # a shell that is about to fork takes Ctrl-C for itself, and the program does not end
        console.send(CONTROL_C)
        answers.append((f"{line}, Ctrl-C", begin + console.read_to_prompt()))
        answers.append(("its status", console.command("echo $?")))
    return answers


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_shell_answers_as_under_qemu_and_the_recorded_run_comes_back_the_same(
    kernel: str, tmp_path: Path
) -> None:
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("no qemu-system-x86_64 to compare with")
    initrd = shell_initramfs(kernel, tmp_path)
    with Console(qemu_run_command(kernel, initrd, QUIET_COMMAND_LINE, tmp_path), seconds=LIMIT_SECONDS) as console:
        assert MARKER in console.read_to_prompt()
        expected = converse(console)

    log, live, again = (tmp_path / name for name in ("input", "live.json", "again.json"))
    command = run_command(guest(kernel), initrd, QUIET_COMMAND_LINE, "--hash")
    with Console([*command, "--record", log, "--stats", live], seconds=LIMIT_SECONDS) as console:
        begin = console.read_to_prompt()
        answers = converse(console)
        console.send("poweroff -f\n")
        status, errors = console.wait()
    assert status == 0, f"exit status {status}: {errors}"
    assert len(answers) == len(expected)
    wrong = [(asked, got, wanted) for (asked, got), (_, wanted) in zip(answers, expected) if got != wanted]
    assert not wrong, f"{len(wrong)} answers differ; the first: {wrong[0]}"

    command += ["--replay", str(log), "--stats", str(again)]
    done = subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    said = done.stdout.decode().replace("\r\n", "\n")
    assert said.startswith(begin + "".join(answer for _, answer in answers))
    assert_same(live, again)


def test_on_a_terminal_ctrl_c_goes_to_the_guest_and_ctrl_a_x_ends_the_run(tmp_path: Path) -> None:
    kernel = "linux-cloud-amd64"
    command = run_command(guest(kernel), shell_initramfs(kernel, tmp_path), QUIET_COMMAND_LINE)
    with Console(command, seconds=LIMIT_SECONDS, terminal=True) as console:
        console.read_to_prompt()
        console.send("echo begun; sleep 1000000\n")
        console.read_to("\r\nbegun\r\n")
        console.send(CONTROL_C)
        console.read_to_prompt()
        assert console.command("echo $?") .startswith(f"echo $?\n{128 + signal.SIGINT}\n")
        console.send(f"{CONTROL_A}x")
        status, errors = console.wait()
    assert status == Status.STOPPED, errors
