"""A static program without a library gives the same output in a guest as on the host, at every processor level: but for
the last bit of what processors do not have alike, the x87's transcendental functions.

`plain.c` is compiled for the 486. The one file is a Linux program, which runs on the host, and a Multiboot image, which
runs on a bare machine: Debian's 32-bit kernel and C library, on which tests/linux runs a larger program, need the CMOV
that a 486 and a Pentium lack. Each variant of its functions is chosen by CPUID.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from oracle.x87_trials import TRANSCENDENTAL, neighbours

import hvmx
from hvmx.isa.levels import LEVELS, Level

HERE = Path(__file__).parent
DEBUG_EXIT, DEBUG_CONSOLE = 0xF4, 0xE9
FLAGS = (
    "-m32", "-march=i486", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fno-builtin", "-fno-pie",
    "-no-pie", "-fno-stack-protector", "-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-static", "-nostdlib",
    "-Wl,-Ttext-segment=0x100000", "-Wl,--build-id=none",
)  # fmt: skip


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("plain") / "plain"
    subprocess.run(["gcc", *FLAGS, "-o", built, HERE / "start.S", HERE / "plain.c"], check=True)
    return built


@pytest.fixture(scope="module")
def expected(program: Path) -> list[str]:
    """What it prints on the host, but for what it says of the processor."""
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()[1:]


def same(ours: str, theirs: str) -> bool:
    """Whether two lines are the same, or differ only as processors may: in the last bit of transcendental functions."""
    (operand, equals, results), (their_operand, _, their_results) = ours.partition(" = "), theirs.partition(" = ")
    if not equals or operand.split()[0] not in TRANSCENDENTAL:
        return ours == theirs
    pairs = [[bytes.fromhex(number.replace(":", ""))[::-1] for number in pair]
             for pair in zip(results.split(), their_results.split(), strict=True)]  # fmt: skip
    return operand == their_operand and all(neighbours(*pair) for pair in pairs)


@pytest.mark.parametrize("level", LEVELS.values(), ids=list(LEVELS))
def test_program_gives_in_the_guest_what_it_gives_on_the_host(
    program: Path, expected: list[str], level: Level
) -> None:
    console = bytearray()
    machine = hvmx.Machine(
        "16M", cpu=level.name, debug_exit=DEBUG_EXIT, debugcon=(DEBUG_CONSOLE, console.extend)
    )
    machine.load(program)
    stop = machine.run(timeout=120)
    assert stop.kind is hvmx.StopKind.DEBUG_EXIT, f"{stop}; the console ends {console[-1000:]!r}"

    processor, *lines = console.decode().splitlines()
    words = processor.split()[1:]
    found = {name: value == "1" for name, value in zip(words[::2], words[1::2])}
    assert found == {name: name in level.features for name in found}
    assert expected[-1] == "the end" and len(expected) > 200
    different = [f"{ours!r}, on the host {theirs!r}" for ours, theirs in zip(lines, expected) if not same(ours, theirs)]
    assert not different, "\n".join(different[:20])
    assert len(lines) == len(expected)
