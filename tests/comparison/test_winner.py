"""Who wins, and on which figures that hangs, is what a run with other figures comes to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hvmx.comparison.side_by_side import compare
from hvmx.comparison.winner import DOUBLE, HALF, Hinge, Verdict, verdict
from hvmx.cost import Mark, Profile, load_profile
from hvmx.exits import ExitReason


def found(profile: Profile, operation: str) -> Verdict:
    result = verdict(profile, compare(profiles=[profile], workloads=[operation]).of(), operation)
    assert result is not None
    return result


def hinge(of: Verdict, figure: str) -> Hinge:
    (one,) = (each for each in of.hinges if each.figure == figure)
    return one


def with_emulation(profile: Profile, cycles: float) -> Profile:
    costs = profile.paravirtual
    return replace(profile, paravirtual=replace(costs, emulation=replace(costs.emulation, cycles=cycles)))


def test_the_cheapest_way_wins_with_those_that_cost_the_same() -> None:
    skylake = load_profile("skylake")
    assert found(skylake, "syscall").winners == ("ept", "shadow")
    assert found(skylake, "port-in").winners == ("pv",)
    assert found(skylake, "pt-write").winners == ("ept",)


def test_beyond_its_limit_a_figure_makes_the_other_way_win() -> None:
    """Asked of runs: below the limit the winner is the same, above it is the one that was named."""
    skylake = load_profile("skylake")
    limit = hinge(found(skylake, "port-kernel"), "paravirtual.emulation")
    assert limit.below and limit.now == skylake.paravirtual.emulation.cycles
    below, above = (found(with_emulation(skylake, limit.limit + change), "port-kernel") for change in (-20, 20))
    assert below.winners == ("pv",)
    assert limit.then in above.winners and "pv" not in above.winners


def test_a_winner_that_half_or_double_an_assumed_figure_unseats_is_not_sure() -> None:
    skylake = load_profile("skylake")
    assert found(skylake, "port-in").sure
    near = with_emulation(skylake, 900)
    assert not found(near, "port-kernel").sure
    assert hinge(found(near, "port-kernel"), "paravirtual.emulation").is_near


def test_figures_that_were_measured_or_published_are_not_varied() -> None:
    skylake = load_profile("skylake")
    costs = skylake.paravirtual
    measured = replace(
        skylake, paravirtual=replace(costs, emulation=replace(costs.emulation, cycles=900, mark=Mark.MEASURED))
    )
    exits = {**skylake.exits, ExitReason.IO_INSTRUCTION: replace(skylake.exits[ExitReason.IO_INSTRUCTION], mark=Mark.PUBLISHED)}
    verdict_then = found(replace(measured, exits=exits), "port-kernel")
    assert "paravirtual.emulation" not in [each.figure for each in verdict_then.hinges]


def test_sure_means_all_assumed_figures_at_their_worst_together() -> None:
    """Each alone may leave the winner where it is, and two together not."""
    skylake = load_profile("skylake")
    costs = skylake.paravirtual
    # 400 and 200 of PV's port come from emulation and exception: doubled they are 1,200, near an exit's 1,213.
    assert found(skylake, "port-kernel").sure
    dearer = replace(skylake, paravirtual=replace(costs, emulation=replace(costs.emulation, cycles=440.0)))
    assert not found(dearer, "port-kernel").sure
    assert not any(each.is_near for each in found(dearer, "port-kernel").hinges)


def test_without_two_ways_there_is_no_winner() -> None:
    skylake = load_profile("skylake")
    alone = compare(profiles=[skylake], ways=["ept", "native"], workloads=["cpuid"]).of()
    assert verdict(skylake, alone, "cpuid") is None
    unexplained = compare(profiles=[skylake], workloads=["cpuid"], explain=False).of()
    assert verdict(skylake, unexplained, "cpuid") is None


@pytest.mark.parametrize("limit", [HALF, DOUBLE])
def test_the_ends_of_the_range_are_near(limit: float) -> None:
    assert Hinge("paravirtual.hypercall", 100, 100 * limit, "ept").is_near
    assert not Hinge("paravirtual.hypercall", 100, 100 * limit * (1.01 if limit > 1 else 0.99), "ept").is_near
