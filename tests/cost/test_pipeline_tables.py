"""What the core gets of a profile: plain numbers, by cost class."""

from __future__ import annotations

import pytest

from hvmx.cost import BUNDLED, PipelineTables, Profile, load_profile
from hvmx.isa import MEMORY_CLASSES, MOVE_CLASSES, cost_classes, families, rows

WITH_PIPELINE = tuple(name for name in BUNDLED if name != "p4-672")


@pytest.fixture(params=BUNDLED)
def profile(request: pytest.FixtureRequest) -> Profile:
    return load_profile(request.param)


@pytest.fixture
def tables(profile: Profile) -> PipelineTables:
    return profile.pipeline_tables()


def test_classes_stand_in_the_order_of_their_numbers(profile: Profile, tables: PipelineTables) -> None:
    by_name = dict(zip(cost_classes(), tables.classes, strict=True))
    for name, timing in profile.instructions.items():
        assert (by_name[name].latency, by_name[name].slots) == (timing.latency, timing.slots), name
        assert by_name[name].moves == (name in MOVE_CLASSES), name


def test_a_class_takes_at_most_six_pipes_and_only_such_as_there_are(tables: PipelineTables) -> None:
    for name, timing in zip(cost_classes(), tables.classes, strict=True):
        assert len(timing.uses) <= 6, name
        assert all(0 < mask < 1 << len(tables.pipes) and cycles > 0 for mask, cycles in timing.uses), name


def test_a_mask_has_the_bits_of_its_groups_pipes() -> None:
    profile = load_profile("zen4")
    shift = profile.pipeline_tables().classes[cost_classes().index("shift")]
    assert profile.instructions["shift"].uses == (("alu12", 1),)
    assert shift.uses == (
        (1 << profile.pipes.index("alu1") | 1 << profile.pipes.index("alu2"), 1),
    )  # fmt: skip


def test_what_nothing_overlaps_takes_no_pipes(profile: Profile) -> None:
    for name, timing in profile.instructions.items():
        assert not (timing.serial and timing.uses), name


def test_what_programs_do_most_is_not_serial(profile: Profile) -> None:
    often = {
        "add",
        "mov",
        "lea",
        "jcc",
        "call",
        "ret",
        "push",
        "pop",
        "imul",
        "div",
        "shl",
        "movaps",
        "mulsd",
        "movs",
    }
    for row in rows():
        if row.family in often:
            sizes = [
                name
                for name in profile.instructions
                if name.rstrip("0123468") == row.cost_class.rstrip("0123468")
            ]
            assert sizes and not any(profile.instructions[name].serial for name in sizes), row.family


def test_without_a_window_nothing_is_fused_eliminated_or_predicted_wrong() -> None:
    tables = load_profile("p4-672").pipeline_tables()
    assert (tables.window, tables.width, tables.pipes, tables.misprediction) == (0, 1, (), 0)
    assert not tables.fusion and not tables.zero_idioms
    assert not tables.eliminates_general and not tables.eliminates_vector
    assert not load_profile("p4-672").branches.predictor


@pytest.mark.parametrize("name", WITH_PIPELINE)
def test_families_that_fuse_with_a_branch_write_flags(name: str) -> None:
    fusion = load_profile(name).pipeline_tables().fusion
    assert {"cmp", "test"} <= set(fusion) <= set(families())
    assert all(row.writes for row in rows() if row.family in fusion)


@pytest.mark.parametrize("name", WITH_PIPELINE)
def test_every_pipe_is_used(name: str) -> None:
    tables = load_profile(name).pipeline_tables()
    used = 0
    for timing in tables.classes:
        for mask, _ in timing.uses:
            used |= mask
    assert used == (1 << len(tables.pipes)) - 1


@pytest.mark.parametrize("name", WITH_PIPELINE)
def test_an_access_to_memory_takes_a_pipe_and_a_load_its_latency(name: str) -> None:
    tables = load_profile(name).pipeline_tables()
    load, load_vector, *stores, locked = tables.classes[: len(MEMORY_CLASSES)]
    assert all(access.uses for access in (load, load_vector, *stores))
    assert (load.latency, load_vector.latency) == (tables.load, tables.load_vector)
    assert locked.serial and locked.latency > 0
