"""Where guest cycles went adds up to what the clock advanced by, and is at the profile's prices."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hvmx import guests
from hvmx.comparison.explained import Window, windows_of
from hvmx.comparison.ledger import Item, Part, Reading, by_part
from hvmx.comparison.outcome import Comparison
from hvmx.comparison.runs import Guest, machine_for
from hvmx.comparison.side_by_side import compare
from hvmx.comparison.ways import WAYS
from hvmx.cost import BUNDLED, FRACTION, Profile, load_profile
from hvmx.machine import Machine


@pytest.fixture(scope="module", params=BUNDLED)
def profile(request: pytest.FixtureRequest) -> Profile:
    return load_profile(request.param)


@pytest.fixture(scope="module")
def compared(profile: Profile, comparison_of: Callable[[str, str], Comparison]) -> Comparison:
    return comparison_of(profile.name, "64M")


def all_ledgers(compared: Comparison) -> list[tuple[str, tuple[Item, ...], float]]:
    runs = [(f"{run.way}", run.ledger, float(run.guest_cycles)) for run in compared]
    operations = [
        (f"{run.way} {operation.name}", operation.ledger, float(operation.guest_cycles))
        for run in compared
        for operation in run.operations.values()
    ]
    return [*runs, *operations]


def test_every_ledger_adds_up_to_the_cycle(compared: Comparison) -> None:
    ledgers = all_ledgers(compared)
    assert len(ledgers) > 50
    for name, ledger, cycles in ledgers:
        # Of the clock that the guest reads only whole cycles show, and so of the run.
        assert 0 <= sum(item.units for item in ledger) / FRACTION - cycles < 1, name


def test_what_has_a_price_costs_that_price_each(profile: Profile, compared: Comparison) -> None:
    figures = dict(profile.figures())
    several = {"strings", "caches"}
    looked_at = set()
    for name, ledger, _ in all_ledgers(compared):
        for item in ledger:
            if item.price is not None and item.price not in several:
                assert item.units == item.count * figures[item.price].units, f"{name}: {item}"
                looked_at.add(item.price.split(".")[0])
    expected = {"instructions", "paging", "events", "exits", "paravirtual"}
    if profile.tlb.second_4k.entries:
        expected.add("tlb")
    if profile.branches.predictor:
        expected.add("pipeline")
    assert looked_at - {"memory"} == expected


def test_no_part_of_a_run_takes_less_than_nothing(compared: Comparison) -> None:
    for run in compared:
        for item in run.ledger:
            assert item.units >= 0 and item.count >= 0, f"{run.way}: {item}"


def test_exits_in_the_ledger_are_the_machines(compared: Comparison) -> None:
    for run in compared:
        counted = sum(item.count for item in run.ledger if item.reason is not None)
        assert counted == run.totals["exits"], run.way


def test_hypercalls_in_the_ledger_are_paid_for_once_each_way_in(compared: Comparison) -> None:
    (calls,) = (item for item in compared.of()["pv"].ledger if item.price == "paravirtual.hypercall")
    pv = compared.of()["pv"]
    within = sum(row.count for row in pv.hypercalls.values()) - pv.totals["hypercalls"]
    assert calls.count == pv.totals["hypercalls"] and within > 0
    assert dict(calls.of) == {name: row.count for name, row in pv.hypercalls.items()}


def test_hypercalls_by_number_add_up_to_what_hypercalls_took(profile: Profile, compared: Comparison) -> None:
    pv = compared.of()["pv"]
    by_number = sum(row.guest_cycles for row in pv.hypercalls.values())
    taken = by_part(pv.ledger)[Part.HYPERCALLS] / FRACTION
    # Elements that Xen's emulation of page-table writes updates are no hypercall's; each row shows whole cycles.
    assert by_number == pytest.approx(taken, abs=len(pv.hypercalls))


def test_native_has_no_part_that_a_hypervisor_would_take(compared: Comparison) -> None:
    assert not set(by_part(compared.of()["native"].ledger)) & {
        Part.EXITS, Part.HYPERCALLS, Part.BOUNCES, Part.EMULATION,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("way", "operation", "expected"),
    [
        ("ept", "port-in", {"exits.IO_INSTRUCTION": 1, "exits.user_device": 1, "instructions.io": 1}),
        ("ept", "port-kernel", {"exits.IO_INSTRUCTION": 1, "instructions.io": 1}),
        ("ept", "cpuid", {"exits.CPUID": 1, "instructions.cpuid": 1}),
        ("ept", "syscall", {"instructions.syscall": 1, "instructions.sysret": 1}),
        ("shadow", "as-switch", {"exits.CR_ACCESS": 1}),
        ("pv", "syscall", {"paravirtual.bounce": 1, "paravirtual.hypercall": 1, "instructions.syscall": 2}),
        ("pv", "port-in", {"paravirtual.emulation": 1, "events.exception": 1, "instructions.io": 1}),
        ("pv", "divide", {"paravirtual.bounce": 1, "paravirtual.hypercall": 1, "events.exception": 1}),
        ("pv", "pt-write", {"paravirtual.hypercall": 2, "paravirtual.update": 2}),
        ("native", "divide", {"events.exception": 1, "instructions.iret": 1}),
    ],
)
def test_an_operation_takes_the_path_that_it_is_said_to_take(way: str, operation: str, expected: dict[str, int]) -> None:
    found = compare(profiles=["skylake"], ways=[way], workloads=[operation]).of()[way].operations[operation]
    counts: dict[str, float] = {}
    for item in found.ledger:
        if item.price is not None:
            counts[item.price] = counts.get(item.price, 0) + item.count / found.count
    for price, count in expected.items():
        assert counts.get(price) == pytest.approx(count, abs=0.01), price


# --- windows ------------------------------------------------------------------------------------------------------------
def ran(way: str) -> tuple[Machine, list[Window], str]:
    (chosen,) = (one for one in WAYS if one.name == way)
    console = bytearray()
    machine = machine_for(Guest(), chosen, load_profile("skylake"), console.extend)
    machine.run()
    return machine, windows_of(machine, chosen), console.decode()


@pytest.mark.parametrize("way", [way.name for way in WAYS])
def test_windows_are_what_the_guest_prints(way: str) -> None:
    _, windows, console = ran(way)
    for name, bench in guests.parse_benches(console).items():
        assert sum((window.end - window.start) * window.sign for window in windows if window.workload == name) == bench.cycles
        assert [window for window in windows if window.workload == name], name


def test_readings_of_the_ends_of_a_run_have_all_of_it() -> None:
    machine, _, _ = ran("ept")
    assert Reading.of(machine).units // FRACTION == machine.cycles


def test_explaining_changes_no_figure(comparison: Comparison) -> None:
    def figures(found: Comparison) -> list[tuple[str, int, dict[str, int]]]:
        return [
            (run.way, run.guest_cycles, {name: op.guest_cycles for name, op in run.operations.items()}) for run in found
        ]

    assert figures(comparison) == figures(compare(explain=False))
