"""When exits and hypercalls came, by slices of guest cycles."""

from __future__ import annotations

import pytest

from hvmx import guests
from hvmx.comparison.over_time import FIRST_WIDTH, HYPERCALLS, MOST_SLICES, run_in_slices
from hvmx.machine import Machine
from hvmx.stops import StopKind


def machine_of(way: str) -> Machine:
    machine = Machine("64M", "skylake")
    machine.load(
        guests.image("pv64" if way == "pv" else "hvm64"),
        pv=way == "pv",
        append=guests.command_line(["cpuid", "console"], "checks=no"),
    )
    return machine


@pytest.mark.parametrize("way", ["hvm", "pv"])
def test_a_run_in_slices_is_the_same_and_every_exit_and_hypercall_is_in_a_slice(way: str) -> None:
    whole, sliced = machine_of(way), machine_of(way)
    stop, over_time = run_in_slices(sliced, None, None)
    assert (whole.run(), whole.cycles) == (stop, sliced.cycles)
    sums = {name: sum(row) for name, row in over_time.counts.items()}
    hypercalls = {HYPERCALLS: whole.cpu.counters()["hypercalls"]} if way == "pv" else {}
    assert sums == {reason.name: row.count for reason, row in whole.exits.statistics().items()} | hypercalls
    assert list(sums.values()) == sorted(sums.values(), reverse=True)
    lengths = {len(row) for row in over_time.counts.values()}
    assert len(lengths) == 1
    (slices,) = lengths
    assert MOST_SLICES / 2 <= slices <= MOST_SLICES + 1
    assert (slices - 1) * over_time.slice_cycles <= sliced.cycles <= (slices + 1) * over_time.slice_cycles


def test_an_exit_is_in_the_slice_in_which_its_instruction_began() -> None:
    nops = 2000
    code = b"\x90" * nops + b"\x0f\xa2\xfa\xf4"  # cpuid; cli; hlt, in one page
    stepped, sliced = (Machine("1M", "skylake", board=False) for _ in range(2))
    for machine in (stepped, sliced):
        machine.load(code, load_address=0x8000, bits=32)
    while stepped.cpu.rip != 0x8000 + nops:
        stepped.step()
    _, over_time = run_in_slices(sliced, None, None)
    row = over_time.counts["CPUID"]
    assert sum(row) == 1 and row.index(1) == stepped.cycles // over_time.slice_cycles > 1


def test_a_run_in_slices_ends_at_its_limit_of_guest_cycles() -> None:
    machine = machine_of("hvm")
    limit = 10 * FIRST_WIDTH + 1
    stop, over_time = run_in_slices(machine, limit, None)
    assert stop.kind is StopKind.CYCLES and machine.cycles >= limit
    whole = machine_of("hvm")
    whole.run(limit)
    assert machine.cycles == whole.cycles
    assert {name: sum(row) for name, row in over_time.counts.items()} == {
        reason.name: count for reason, count in whole.exits.counts().items()
    }


def test_a_run_in_slices_ends_at_its_limit_of_host_time() -> None:
    machine = Machine("1M", "skylake", board=False)
    machine.load(b"\xeb\xfe", load_address=0x8000, bits=32)  # a loop without end
    stop, _ = run_in_slices(machine, None, 0.2)
    assert stop.kind is StopKind.TIMEOUT
