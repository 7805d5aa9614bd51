"""The ways of running a guest differ as is published: in which of them an operation is dearer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest
from tables import assert_fits_80_columns, printed

from hvmx import guests
from hvmx.cli import Status, main
from hvmx.comparison.outcome import Comparison, Outcome
from hvmx.comparison.runs import Guest, knows_ports, machine_for
from hvmx.comparison.ways import WAYS, Way
from hvmx.cost import BUNDLED, Profile, load_profile
from hvmx.exits import ExitReason
from hvmx.machine import Machine
from hvmx.report.comparison import comparison_table, ratios

NOTHING_EXTRA: Final = 1.01
"""Ratio within which two ways cost the same: they differ by TLB misses around the operations."""

MULTICALL, XEN_VERSION = 13, 17
"""Xen's numbers of hypercalls."""
CALLS: Final = 32


@pytest.fixture(scope="module", params=BUNDLED)
def profile(request: pytest.FixtureRequest) -> Profile:
    return load_profile(request.param)


@pytest.fixture(scope="module")
def results(profile: Profile, comparison_of: Callable[[str, str], Comparison]) -> dict[str, Outcome]:
    return comparison_of(profile.name, "64M").of()


def cycles_in(outcome: Outcome) -> dict[str, float]:
    """Guest cycles of an operation, by its name."""
    return {name: operation.cycles_each for name, operation in outcome.operations.items()}


def virtualized(results: dict[str, Outcome], operation: str) -> dict[str, float]:
    """Ratios among the ways that have a hypervisor."""
    return ratios({name: result for name, result in results.items() if name != "native"}, operation)


def test_a_system_call_costs_hvm_nothing_extra_and_pv_a_bounce(results: dict[str, Outcome]) -> None:
    ratio = ratios(results, "syscall")
    assert max(ratio["ept"], ratio["shadow"]) < NOTHING_EXTRA
    assert ratio["pv"] > 2


def test_a_divide_error_costs_hvm_nothing_extra_and_pv_a_bounce(results: dict[str, Outcome]) -> None:
    ratio = ratios(results, "divide")
    assert max(ratio["ept"], ratio["shadow"]) < NOTHING_EXTRA
    assert ratio["pv"] > 1.5


def test_a_page_table_write_is_dearest_by_shadow_paging_and_free_by_nested(
    results: dict[str, Outcome],
) -> None:
    ratio = virtualized(results, "pt-write")
    assert ratio["shadow"] > ratio["pv"] > ratio["ept"] == 1


def test_a_page_table_write_costs_nested_paging_no_more_than_the_tlb_miss_after_it(
    results: dict[str, Outcome],
) -> None:
    nested, native = cycles_in(results["ept"]), cycles_in(results["native"])
    assert nested["pt-write"] - native["pt-write"] < nested["tlb-miss"] - native["tlb-miss"] + 1


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_page_table_writes_in_a_batch_are_cheaper_than_single_ones(results: dict[str, Outcome], way: Way) -> None:
    cycles = cycles_in(results[way.name])
    assert cycles["pt-write-batch"] < cycles["pt-write"] / 2


def test_a_tlb_miss_is_dearest_by_nested_paging(results: dict[str, Outcome]) -> None:
    ratio = ratios(results, "tlb-miss")
    assert ratio["ept"] > 1.5
    assert max(ratio["shadow"], ratio["pv"], ratio["native"]) < NOTHING_EXTRA


def test_a_port_of_user_space_is_dearer_than_one_of_the_kernel_and_than_cpuid(results: dict[str, Outcome]) -> None:
    for way in ("ept", "shadow"):
        cycles = cycles_in(results[way])
        assert cycles["port-in"] > max(cycles["port-kernel"], cycles["cpuid"]), way


def test_ports_of_one_kind_cost_the_same_in_both_directions(results: dict[str, Outcome]) -> None:
    for name, result in results.items():
        cycles = cycles_in(result)
        if "port-in" in cycles:
            assert cycles["port-in"] == pytest.approx(cycles["port-out"], abs=2), name


def test_ports_of_pv_are_the_hardwares_whoever_would_have_them_for_hvm(results: dict[str, Outcome]) -> None:
    cycles = cycles_in(results["pv"])
    assert cycles["port-in"] == pytest.approx(cycles["port-kernel"], abs=2)


# --- without a hypervisor -----------------------------------------------------------------------------------------------
def test_native_is_never_dearer_than_any_hvm(results: dict[str, Outcome]) -> None:
    native = results["native"]
    for way in ("ept", "shadow"):
        for operation, cycles in cycles_in(native).items():
            assert cycles <= cycles_in(results[way])[operation] * NOTHING_EXTRA, f"{operation}, {way}"
        assert native.totals["guest_cycles"] < results[way].totals["guest_cycles"]
        assert native.totals["tlb_misses"] <= results[way].totals["tlb_misses"]
    for name, operation in native.operations.items():
        # Of the clock that the guest reads only whole cycles show.
        assert operation.guest_cycles <= results["ept"].operations[name].guest_cycles + 1, name


def test_native_exits_to_nobody_and_its_walks_have_one_dimension(results: dict[str, Outcome]) -> None:
    totals = results["native"].totals
    assert totals["exits"] == totals["hypercalls"] == 0
    assert totals["walk_references"] <= 4 * totals["tlb_misses"]


def test_what_would_exit_costs_the_native_guest_its_instruction(profile: Profile, results: dict[str, Outcome]) -> None:
    native, virtual = cycles_in(results["native"])["cpuid"], cycles_in(results["ept"])["cpuid"]
    assert virtual - native == pytest.approx(profile.exits[ExitReason.CPUID].cycles, abs=1)


def test_native_has_no_figure_of_a_port_of_which_the_profile_has_none(
    profile: Profile, results: dict[str, Outcome]
) -> None:
    native = cycles_in(results["native"])
    assert knows_ports(profile) == (profile.name == "p4-672")
    with_ports = {name for name, workload in guests.WORKLOADS.items() if workload.ports}
    assert with_ports & set(native) == (with_ports if knows_ports(profile) else set())
    assert set(native) | with_ports == set(guests.WORKLOADS)
    if knows_ports(profile):
        assert native["port-in"] == pytest.approx(profile.instructions["io"].latency, rel=0.01)


def test_an_operation_accesses_ports_if_it_says_so() -> None:
    """Asked of the machine: with all ports dearer, those get dearer that say so."""
    skylake = load_profile("skylake")
    io = replace(skylake.instructions["io"], latency=10_000)
    dear = replace(skylake, instructions={**skylake.instructions, "io": io})
    (nested,) = (way for way in WAYS if way.name == "ept")
    usual, dearer = (benches(nested, profile, "checks=no") for profile in (skylake, dear))
    found = {name for name in usual if dearer[name].cycles > usual[name].cycles + usual[name].operations * 1000}
    assert found == {name for name, workload in guests.WORKLOADS.items() if workload.ports}


@pytest.mark.parametrize("operation", ["pgfault", "as-switch", "fork-wait"])
def test_work_on_page_tables_is_dearest_by_shadow_paging(
    results: dict[str, Outcome], operation: str
) -> None:
    ratio = ratios(results, operation)
    assert ratio["shadow"] > max(ratio["ept"], ratio["pv"], ratio["native"])


def test_nested_paging_misses_more_often_and_makes_more_references(results: dict[str, Outcome]) -> None:
    """Its pages are of 4 KiB, and so are the TLB's entries of the guest's larger ones."""
    nested, shadow = results["ept"].totals, results["shadow"].totals
    assert nested["tlb_misses"] > shadow["tlb_misses"] > 0
    assert nested["walk_references"] > shadow["walk_references"] > shadow["tlb_misses"]


@pytest.mark.parametrize("operation", ["console", "timer-read", "timer-tick", "port-in", "port-out", "port-kernel", "cpuid"])
def test_pv_wins_where_hvm_exits(results: dict[str, Outcome], operation: str) -> None:
    ratio = virtualized(results, operation)
    assert ratio["pv"] == 1 < min(ratio["ept"], ratio["shadow"])


def test_shadow_paging_takes_more_exits_and_pv_the_fewest(results: dict[str, Outcome]) -> None:
    exits = {name: result.totals["exits"] for name, result in results.items()}
    assert exits["shadow"] > exits["ept"] > exits["pv"] > exits["native"]
    assert results["pv"].totals["hypercalls"] > 0 == results["ept"].totals["hypercalls"]


def test_the_table_fits_80_columns(profile: Profile, results: dict[str, Outcome]) -> None:
    assert_fits_80_columns(printed(comparison_table(profile, results)))


# --- the same guest, the same figure ------------------------------------------------------------------------------------
WAYS_32_BITS = tuple(replace(way, bundled="hvm32") for way in WAYS if way.bundled == "hvm64")


@pytest.mark.parametrize("way", [way for way in WAYS if not way.native], ids=lambda way: way.name)
def test_a_run_and_the_comparison_have_the_same_figures(
    way: Way, comparison_of: Callable[[str, str], Comparison], capfd: pytest.CaptureFixture[str]
) -> None:
    compared = comparison_of("skylake", "64M").of()[way.name]
    how = ["--pv"] if way.pv else ["--paging", way.paging]
    assert main(["run", *how, "--memory", "64M", f"hvmx-{way.bundled}"]) == Status.GOOD
    console, said = capfd.readouterr()
    benches = guests.parse_benches(console)
    assert {name: bench.cycles_per_operation for name, bench in benches.items()} == cycles_in(compared)
    assert f"{compared.totals['guest_cycles']:,} guest cycles" in said


def benches(way: Way, profile: Profile, command_line: str, memory: str = "64M") -> dict[str, guests.Bench]:
    console = bytearray()
    machine_for(Guest(append=command_line), way, profile, console.extend, memory).run()
    return guests.parse_benches(console.decode())


@pytest.mark.parametrize("profile", BUNDLED)
@pytest.mark.parametrize("way", [*WAYS, *WAYS_32_BITS], ids=lambda way: f"{way.bundled} {way.name}")
def test_a_workload_costs_the_same_whatever_ran_before_it(way: Way, profile: str) -> None:
    learning = load_profile(profile)
    without = replace(learning, branches=replace(learning.branches, predictor=False))
    whole = benches(way, without, "")
    others = {
        "without checks": benches(way, without, "checks=no"),
        "in the other order": benches(way, without, guests.command_line([*whole][::-1], "checks=no")),
        "a second time": benches(way, without, guests.command_line([*whole, *whole])),
        "with more memory": benches(way, without, "", "128M"),
    }
    for name in whole:
        others[f"{name} alone"] = benches(way, without, guests.command_line([name]))
    for how, other in others.items():
        for name, bench in other.items():
            # The clock that the guest reads shows whole cycles, and a cycle begins where it does; and what the TLBs and the
            # caches of page walks hold at the start has an end, but not at once.
            difference = bench.cycles - whole[name].cycles
            allowed = bench.operations + bench.cycles // 500
            assert abs(difference) < allowed, f"{name}, {how}: {difference:+} guest cycles"


@pytest.mark.parametrize("profile", BUNDLED)
@pytest.mark.parametrize("way", [*WAYS, *WAYS_32_BITS], ids=lambda way: f"{way.bundled} {way.name}")
def test_what_the_branch_predictor_has_learned_before_a_workload_is_little_of_its_cost(way: Way, profile: str) -> None:
    learning = load_profile(profile)
    whole = benches(way, learning, "checks=no")
    for other in (
        benches(way, learning, guests.command_line([*whole][::-1], "checks=no")),
        benches(way, learning, guests.command_line([*whole, *whole], "checks=no")),
    ):
        for name, bench in other.items():
            difference = bench.cycles - whole[name].cycles
            assert abs(difference) < bench.operations + bench.cycles // 50, f"{name}: {difference:+} guest cycles"


# --- batching -----------------------------------------------------------------------------------------------------------
def single_calls(list_address: int) -> bytes:
    # mov eax, XEN_VERSION; xor edi, edi; syscall
    return CALLS * (b"\xb8" + XEN_VERSION.to_bytes(4, "little") + b"\x31\xff\x0f\x05")


def one_multicall(list_address: int) -> bytes:
    # mov eax, MULTICALL; mov rdi, list; mov esi, CALLS; syscall
    return b"".join(
        (
            b"\xb8", MULTICALL.to_bytes(4, "little"), b"\x48\xbf", list_address.to_bytes(8, "little"),
            b"\xbe", CALLS.to_bytes(4, "little"), b"\x0f\x05",
        )
    )  # fmt: skip


def cycles_of(profile: str, code_for: Callable[[int], bytes]) -> int:
    """Guest cycles of code that makes CALLS hypercalls, in place of the PV guest's own first instructions."""
    machine = Machine("64M", profile)
    machine.load(guests.image("pv64"), pv=True)
    cpu = machine.cpu
    start = cpu.rip
    list_address = (start & ~0xFFF) + 0x1000
    code = code_for(list_address)
    # struct multicall_entry: op, result, six arguments.
    calls = CALLS * (XEN_VERSION.to_bytes(8, "little") + bytes(56))
    for address, data in ((start, code), (list_address, calls)):
        physical = cpu.translate(address)
        assert physical is not None, f"{address:#x} is not mapped"
        assert len(data) <= 0x1000 - address % 0x1000, (
            "what does not fit a page would spill into another frame"
        )
        cpu.write(physical, data)
    while cpu.rip != start + len(code):
        assert start <= cpu.rip < start + len(code), f"the guest went to {cpu.rip:#x}"
        machine.step()
    assert machine.hypercalls.counts()["xen_version"] == CALLS
    return cpu.cycles


@pytest.mark.parametrize("profile", BUNDLED)
def test_a_batch_is_cheaper_than_single_hypercalls(profile: str) -> None:
    assert cycles_of(profile, one_multicall) < cycles_of(profile, single_calls)


def test_a_vmcall_costs_about_what_was_measured() -> None:
    """kvm-unit-tests' vmcall: 1195 cycles, which no figure of the profile was fitted to."""
    machine = Machine("1M", "skylake", board=False)
    machine.load(b"\x0f\x01\xc1" * 2, load_address=0x8000, bits=32)
    machine.step()  # with the first touch of the page
    before = machine.cpu.cycles
    machine.step()
    assert machine.cpu.cycles - before == pytest.approx(1195, rel=0.25)
