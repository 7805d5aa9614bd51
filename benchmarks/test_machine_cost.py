"""What a machine costs its host besides the guest's work: memory, and the time to make one."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import images
import pytest
from images import Kernel
from pytest_benchmark.fixture import BenchmarkFixture

pytest.importorskip("hvmx.machine", exc_type=ImportError)

import hvmx

MEMORY_LIMIT_KB: Final = 32 << 10

GROWTH: Final = """
import re, sys
import hvmx

def status_kb(field):
    with open("/proc/self/status") as file:
        return int(re.search(field + r":\\s+(\\d+) kB", file.read())[1])

before = status_kb("VmRSS")
machine = hvmx.Machine(memory=sys.argv[1], profile="skylake")
machine.load(sys.argv[2])
machine.run()
print(status_kb("VmHWM") - before)
"""
"""Peak resident memory of a process that makes and runs a machine, over what importing hvmx took."""


@pytest.mark.parametrize("memory", ["64M", "1G"])
def test_a_machine_costs_the_memory_that_its_guest_touched_and_little_more(
    memory: str, report: list[str]
) -> None:
    kernel = Kernel("sieve", 1)
    image = images.multiboot(kernel)
    process = subprocess.run(
        [sys.executable, "-c", GROWTH, memory, str(image)], capture_output=True, text=True, check=True
    )
    growth = int(process.stdout)
    touched = images.flat(kernel).memory_size >> 10
    assert growth >= touched, f"the sieve touches {touched} KB, but the process grew by {growth} KB"
    report.append(
        f"a machine of {memory}: {growth - touched} KB besides the {touched} KB that its guest touched"
    )
    assert growth - touched <= MEMORY_LIMIT_KB


def test_making_a_machine(benchmark: BenchmarkFixture) -> None:
    machine = benchmark(hvmx.Machine, memory="64M", profile="skylake")
    assert len(machine.memory) == 64 << 20
