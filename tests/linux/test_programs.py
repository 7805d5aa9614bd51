"""A static program gives the same output in a guest as on the host, at each processor level that its kernel boots on.

`tests/programs/everyday.c` is the guest's /init. It is built with the host's C library, which chooses among variants of
its functions by CPUID: the guest's choice is the level's, the host's is restricted to processors without AVX and FMA,
whose fused multiplications give other last bits (GLIBC_TUNABLES). The 32-bit kernel and C library of Debian need CMOV:
tests/programs/test_plain.py has what runs on a 486 and a Pentium, too.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from guests import guest
from linux.initramfs import build_program_initramfs
from linux.kernels import QUIET_COMMAND_LINE, run_command

from hvmx.isa.levels import LEVELS

SOURCE = Path(__file__).parents[1] / "programs" / "everyday.c"
LIKE_THE_GUEST = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-FMA4"}

RUNS = [
    ("linux-686", 32, "pentium2"),
    ("linux-686", 32, "x86-64-v1"),
    ("linux-686", 32, "x86-64-v2"),
    ("linux-cloud-amd64", 64, "x86-64-v1"),
    ("linux-cloud-amd64", 64, "x86-64-v2"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Builds the program for a width, once."""
    directory = tmp_path_factory.mktemp("programs")

    def build(bits: int) -> Path:
        built = directory / f"everyday{bits}"
        if not built.exists():
            flags = (f"-m{bits}", "-D_GNU_SOURCE", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-static")
            done = subprocess.run(
                ["gcc", *flags, "-o", built, SOURCE, "-lm"], check=False, capture_output=True, text=True
            )
            if done.returncode and bits == 32 and os.environ.get("CI") != "true":
                pytest.skip("no static 32-bit C library (Debian: apt install gcc-multilib)")
            assert done.returncode == 0, done.stderr
        return built

    return build


def results(output: str) -> tuple[dict[str, bool], list[str]]:
    """Which features the program found, and its other lines; the kernel's own are left out."""
    lines = [line for line in output.splitlines() if not re.match(r"\[ *\d+\.\d+\] ", line)]
    (processor,) = (line for line in lines if line.startswith("processor: "))
    words = processor.split()[1:]
    found = {name: value == "1" for name, value in zip(words[::2], words[1::2])}
    return found, [line for line in lines if line != processor]


@pytest.mark.parametrize(("kernel", "bits", "cpu"), RUNS)
def test_program_gives_in_the_guest_what_it_gives_on_the_host(
    program: Callable[[int], Path], tmp_path: Path, kernel: str, bits: int, cpu: str
) -> None:
    image, built = guest(kernel), program(bits)
    initrd = build_program_initramfs(tmp_path / "program.cpio", built)
    command = run_command(image, initrd, QUIET_COMMAND_LINE, "--cpu", cpu)
    done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr[-2000:]}{done.stdout[-1000:]}"
    native = subprocess.run([built], check=True, capture_output=True, text=True, env=LIKE_THE_GUEST)

    found, lines = results(done.stdout)
    assert found == {name: name in LEVELS[cpu].features for name in found}
    _, expected = results(native.stdout)
    assert expected[-1] == "the end" and len(expected) > 700
    different = [f"{ours!r}, on the host {theirs!r}" for ours, theirs in zip(lines, expected) if ours != theirs]
    assert not different, "\n".join(different[:20])
    assert len(lines) == len(expected)
