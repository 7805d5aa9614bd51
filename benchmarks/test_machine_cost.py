"""What a machine costs its host besides the guest's work: memory, and the time to make one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import images
import pytest
from images import Kernel
from pytest_benchmark.fixture import BenchmarkFixture

pytest.importorskip("hvmx.machine", exc_type=ImportError)

import hvmx
from hvmx import guests as bundled

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from guests import guest
from linux.kernels import COMMAND_LINE, initramfs

MEMORY_LIMIT_KB: Final = 32 << 10

GROWTH: Final = """
import mmap, re, sys
import numpy
import hvmx

def status_kb(field):
    with open("/proc/self/status") as file:
        return int(re.search(field + r":\\s+(\\d+) kB", file.read())[1])

def resident_kb(first, size):
    # By pages, not by /proc/self/smaps, where a mapping may have been merged with its neighbour.
    with open("/proc/self/pagemap", "rb") as file:
        file.seek(first // mmap.PAGESIZE * 8)
        entries = numpy.frombuffer(file.read(size // mmap.PAGESIZE * 8), numpy.uint64)
    return int((entries >> numpy.uint64(63)).sum()) * mmap.PAGESIZE >> 10

memory, image, pv, append, initrd = sys.argv[1:]
Machine = hvmx.Machine
before = status_kb("VmRSS")
machine = Machine(memory=memory, profile="skylake")
machine.load(image, pv=pv == "pv", append=append, initrd=initrd or None)
stop = machine.run(timeout=300)
growth = status_kb("VmHWM") - before
print(growth, resident_kb(machine.memory.ctypes.data, len(machine.memory)), stop.kind.name)
"""
"""Of a process that makes, loads and runs a machine: its peak resident memory over what importing hvmx took, and the
guest memory that is resident at the end; in KB."""


def _cost_kb(
    memory: str, image: Path, *, pv: bool = False, append: str = "", initrd: Path | str = ""
) -> tuple[int, int, str]:
    """What a machine costs besides the memory that its guest touched, that memory, and why the machine stopped."""
    arguments = [sys.executable, "-c", GROWTH, memory, image, "pv" if pv else "hvm", append, initrd]
    process = subprocess.run(arguments, capture_output=True, text=True, check=True)
    growth, touched, stop = process.stdout.split()[-3:]
    return int(growth) - int(touched), int(touched), stop


def _assert_little(what: str, cost: int, touched: int, report: list[str]) -> None:
    report.append(f"a machine of {what}: {cost} KB besides the {touched} KB that its guest touched")
    assert cost <= MEMORY_LIMIT_KB


@pytest.mark.parametrize("memory", ["64M", "1G"])
def test_a_machine_costs_the_memory_that_its_guest_touched_and_little_more(
    memory: str, report: list[str]
) -> None:
    kernel = Kernel("sieve", 1)
    cost, touched, _ = _cost_kb(memory, images.multiboot(kernel))
    sieve = images.flat(kernel).memory_size >> 10
    assert touched >= sieve, f"the sieve touches {sieve} KB, but of the guest's memory {touched} KB are resident"
    _assert_little(memory, cost, touched, report)


@pytest.mark.parametrize("memory", ["128M", "1G", "6G"])
@pytest.mark.parametrize(("name", "stop"), [("hvm64", "HALTED"), ("pv64", "POWEROFF")])
def test_the_bundled_guest_costs_no_more_where_it_has_much_memory(
    name: str, stop: str, memory: str, report: list[str]
) -> None:
    cost, touched, stopped = _cost_kb(memory, bundled.image(name), pv=name == "pv64")
    assert stopped == stop
    _assert_little(f"{memory}, {name}", cost, touched, report)


@pytest.mark.parametrize("memory", ["256M", "6G"])
@pytest.mark.parametrize(("mode", "stop"), [("hvm", "HALTED"), ("pv", "POWEROFF")])
def test_a_stock_kernel_costs_no_more_from_its_file_to_its_init(
    mode: str, stop: str, memory: str, report: list[str], tmp_path: Path
) -> None:
    kernel, pv = "linux-amd64", mode == "pv"
    append = "console=hvc0 panic=-1" if pv else COMMAND_LINE
    cost, touched, stopped = _cost_kb(
        memory, guest(kernel), pv=pv, append=append, initrd=initramfs(kernel, tmp_path)
    )
    assert stopped == stop
    _assert_little(f"{memory}, {kernel}, {mode}", cost, touched, report)


def test_making_a_machine(benchmark: BenchmarkFixture) -> None:
    machine = benchmark(hvmx.Machine, memory="64M", profile="skylake")
    assert len(machine.memory) == 64 << 20
