"""What an earlier comparison is told apart by: each figure that has changed, and nothing else."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from hvmx.comparison.side_by_side import compare
from hvmx.cost import Profile, load_profile
from hvmx.exits import ExitReason
from hvmx.report.comparison import comparison_json
from hvmx.report.comparison_diff import (
    Difference,
    NotAComparison,
    Run,
    differences,
    figures_by_run,
)

OPERATIONS = ("syscall", "cpuid")
WAYS = ("ept", "pv")
EPT, PV = (Run("bundled", "skylake", way) for way in WAYS)


def data_of(profile: Profile) -> dict[str, Any]:
    found = compare(profiles=[profile], ways=WAYS, workloads=OPERATIONS)
    data: dict[str, Any] = json.loads(json.dumps(comparison_json(found, {profile.name: profile})))
    return data


@pytest.fixture(scope="module")
def before() -> dict[str, Any]:
    return data_of(load_profile("skylake"))


def found(before: object, now: object) -> list[Difference]:
    return differences(figures_by_run(before), figures_by_run(now))


def test_a_second_comparison_has_no_difference_though_it_took_another_host_time(before: dict[str, Any]) -> None:
    now = data_of(load_profile("skylake"))
    assert now != before, "host time"
    assert found(before, now) == []


def test_a_dearer_exit_is_found_where_it_was_paid_and_nowhere_else(before: dict[str, Any]) -> None:
    profile = load_profile("skylake")
    cpuid = profile.exits[ExitReason.CPUID]
    dearer = replace(profile, exits={**profile.exits, ExitReason.CPUID: replace(cpuid, cycles=cpuid.cycles + 100)})
    changes = found(before, data_of(dearer))
    assert {it.run for it in changes} == {EPT}
    by_figure = {it.figure: it for it in changes}
    each = by_figure["cpuid: guest cycles"]
    assert each.now == pytest.approx(each.before + 100)
    assert each.change == pytest.approx(100 / each.before)
    # Ticks of the timer come between other instructions now, but cost the system call nothing.
    assert "whole run: guest cycles" in by_figure and "guest cycles: exits" in by_figure
    assert not {"syscall: guest cycles", "cpuid: how many", "exits: CPUID", "end"} & set(by_figure)


def test_what_only_one_of_them_has_is_a_difference(before: dict[str, Any]) -> None:
    less = copy.deepcopy(before)
    del less["outcomes"][1]["operations"]["syscall"]
    lost = found(before, less)
    assert [(it.run, it.figure, it.now, it.change) for it in lost] == [
        (PV, "syscall: guest cycles", None, None), (PV, "syscall: how many", None, None),
    ]  # fmt: skip
    assert [(it.figure, it.before) for it in found(less, before)] == [(it.figure, None) for it in lost]


def test_a_way_that_cannot_run_any_more_is_one_difference(before: dict[str, Any]) -> None:
    refused = copy.deepcopy(before)
    pv = refused["outcomes"].pop()
    refused["refusals"].append({**{key: pv[key] for key in ("guest", "profile", "way")}, "why": "no notes"})
    assert found(before, refused) == [Difference(PV, "end", pv["end"], "not run: no notes")]
    assert found(refused, refused) == []


def test_runs_that_were_not_asked_for_again_are_left_out(before: dict[str, Any]) -> None:
    one = copy.deepcopy(before)
    del one["outcomes"][1]
    assert found(before, one) == []


@pytest.mark.parametrize("key", ["guest", "profile"])
def test_another_guest_or_profile_is_named_with_those_that_there_are(before: dict[str, Any], key: str) -> None:
    other = copy.deepcopy(before)
    for outcome in other["outcomes"]:
        outcome[key] = "another"
    with pytest.raises(NotAComparison, match=r"^has no run of .*another.*, ept: there are bundled, skylake, ept; bundled"):
        found(before, other)


@pytest.mark.parametrize(
    "data",
    [None, [], 3, "x", {}, {"format": 1}, {"format": 1, "outcomes": [{}], "refusals": []},
     {"format": 1, "outcomes": [3], "refusals": []}, {"format": 1, "outcomes": {}}],
)  # fmt: skip
def test_what_is_no_comparison_is_said_to_be_none(data: object) -> None:
    with pytest.raises(NotAComparison, match=r"is not what `hvmx compare --json` writes"):
        figures_by_run(data)


def test_another_format_is_named(before: dict[str, Any]) -> None:
    with pytest.raises(NotAComparison, match=r"has format 7; this version reads format 1"):
        figures_by_run({**before, "format": 7})


@pytest.mark.parametrize("figure", ["totals", "operations", "ledger", "exits"])
def test_a_comparison_that_lacks_something_is_none(before: dict[str, Any], figure: str) -> None:
    broken = copy.deepcopy(before)
    del broken["outcomes"][0][figure]
    with pytest.raises(NotAComparison, match=figure):
        figures_by_run(broken)
