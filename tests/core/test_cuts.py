"""A run gives the same bytes, cycles and exits whole, in slices, in steps, or interrupted once at any place."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

import pytest

from hvmx.core.vcpu import Vcpu

from .cut_guest import (
    PIECES,
    CutGuest,
    cut_cycles,
    differences,
    mixture,
    ones,
    program,
    random_programs,
    run_in_parts,
    run_whole,
    steps,
)
from .program_guest import OF_THE_HOST

NIGHTLY = os.environ.get("HVMX_NIGHTLY") == "1"
CUTS = 1_000_000 if NIGHTLY else 20
PROGRAMS = 3_000 if NIGHTLY else 20
PAGINGS = ("ept", "shadow")
TRANSLATE_AFTER = (None, 0)
WAYS: dict[str, Callable[[], Iterator[int]]] = {
    "steps": steps,
    "run(1)": ones,
    "a mixture": lambda: mixture(0),
}


def assert_same(
    source: str, paging: str, translate_after: int | None, ways: dict[str, Iterator[int]], what: str
) -> None:
    whole = run_whole(CutGuest(source, paging, translate_after))
    for way, parts in ways.items():
        different = differences(whole, run_in_parts(CutGuest(source, paging, translate_after), parts))
        if translate_after:
            different.pop("blocks_translated", None)  # going on within a block is no entry of it
        assert not different, (
            f"{what}, {paging}, translate_after={translate_after}, whole and {way}: {different}"
        )


@pytest.mark.parametrize("name", PIECES)
def test_steps_and_slices_are_the_whole_run(name: str) -> None:
    for timer in (None, 4):
        if name == "HLT" and timer is None:
            continue  # nothing would wake it
        source = program([name], timer)
        for paging in PAGINGS:
            for translate_after in TRANSLATE_AFTER:
                ways = {way: parts() for way, parts in WAYS.items()}
                assert_same(source, paging, translate_after, ways, f"{name}, timer {timer}")


@pytest.mark.parametrize("name", [name for name in PIECES if name != "HLT"])
def test_one_cut_anywhere_changes_nothing(name: str) -> None:
    source = program([name], None)
    for paging in PAGINGS:
        cuts = cut_cycles(source, paging)
        cuts = sorted(random.Random(name).sample(cuts, min(CUTS, len(cuts))))
        for translate_after in TRANSLATE_AFTER:
            ways = {f"cut at cycle {cut}": iter([cut]) for cut in cuts}
            assert_same(source, paging, translate_after, ways, name)


def test_paths_that_are_forgotten_in_the_midst_cost_the_same_again() -> None:
    for seed, (names, timer) in enumerate(random_programs(range(PROGRAMS), 6)):
        source = program(names, timer)
        for translate_after in TRANSLATE_AFTER:
            whole = run_whole(CutGuest(source, PAGINGS[seed % 2], translate_after))
            forgetful = CutGuest(source, PAGINGS[seed % 2], translate_after)

            def parts(cpu: Vcpu = forgetful.machine.cpu, seed: int = seed) -> Iterator[int]:
                for cycles in mixture(seed):
                    cpu.forget_paths()
                    yield cycles

            different = differences(whole, run_in_parts(forgetful, parts()))
            assert different.keys() <= set(OF_THE_HOST), f"program {seed} of {names}, timer {timer}: {different}"


def test_pieces_in_any_order_can_be_cut_anywhere() -> None:
    for seed, (names, timer) in enumerate(random_programs(range(PROGRAMS), 6)):
        source = program(names, timer)
        ways = {
            "steps": steps(),
            "run(1)": ones(),
            "a mixture": mixture(seed),
            "another mixture": mixture(-seed - 1),
        }
        assert_same(
            source,
            PAGINGS[seed % 2],
            (None, 0, 3)[seed % 3],
            ways,
            f"program {seed} of {names}, timer {timer}",
        )


def test_a_view_of_memory_kept_between_slices_changes_nothing() -> None:
    for paging in PAGINGS:
        source = program(["stores", "REP MOVS over page borders", "calls", "page faults"], 4)
        whole = run_whole(CutGuest(source, paging, 0))
        guest = CutGuest(source, paging, 0)
        view = guest.machine.memory
        different = differences(whole, run_in_parts(guest, mixture(1)))
        del view
        assert different.keys() <= set(OF_THE_HOST), f"{paging}, whole and with a view of memory in slices: {different}"
