"""The profiles against published figures that they were not made from, and the signs that a faithful model shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pytest

from hvmx.cost import BUNDLED, Mark, Profile, load_profile
from hvmx.exits import ExitReason

HONEST: Final = 0.25
"""The error against hardware within which "cycle-approximate" is an honest word."""
NATIVE_WALK, NESTED_WALK = 4, 24
"""Page-table references of one TLB miss in long mode (SDM vol. 3, 4.5 and 28.2)."""


@dataclass(frozen=True)
class Prediction:
    """What a profile comes to for an operation that was measured, and the measurement."""

    profile: str
    source: str
    measured_as: str
    measured: float
    parts: tuple[str, ...]
    walk_references: int = 0

    def predicted(self) -> float:
        profile = load_profile(self.profile)
        figures = dict(profile.figures())
        walk = self.walk_references * profile.page_reference.cycles
        return sum(figures[part].cycles for part in self.parts) + walk


PREDICTIONS: Final = (
    Prediction(
        "skylake", "Linux commit b7ffc44d5b2e", "vmcall", 1195, ("instructions.vmcall", "exits.VMCALL")
    ),
    # 32-bit tables have two levels: the miss that faults, and the one that then succeeds.
    Prediction(
        "p4-672", "Adams", "pgfault", 1093, ("events.exception", "instructions.iret", "memory.load"), 2 * 2
    ),
    # Under the hardware VMM as natively: a divide error does not leave the guest.
    Prediction(
        "p4-672", "Adams", "divzero, hardware VMM", 1014,
        ("events.exception", "instructions.iret"),
    ),
    # 0.54 us at 2.5 GHz.
    Prediction("cascade-lake", "PVM (SOSP 2023)", "cpuid", 1350, ("instructions.cpuid", "exits.CPUID")),
)  # fmt: skip


@pytest.mark.parametrize("prediction", PREDICTIONS, ids=lambda p: f"{p.profile} {p.measured_as}")
def test_a_measured_operation_is_predicted_within_the_honest_error(prediction: Prediction) -> None:
    error = prediction.predicted() / prediction.measured - 1
    assert abs(error) <= HONEST, (
        f"{prediction.predicted():.0f} instead of {prediction.measured}: {error:+.0%}"
    )


@pytest.mark.parametrize("prediction", PREDICTIONS, ids=lambda p: f"{p.profile} {p.measured_as}")
def test_what_is_predicted_is_not_among_what_was_fitted(prediction: Prediction) -> None:
    for key, figure in load_profile(prediction.profile).figures():
        if figure.mark is Mark.ASSUMED or not figure.source.startswith(prediction.source):
            continue
        assert f"{prediction.measured:g}" not in figure.where, f"{key} is from {figure.where!r}"


def test_predictions_cover_every_profile_whose_exits_were_fitted() -> None:
    fitted = {name for name in BUNDLED if load_profile(name).user_device.mark is Mark.FITTED}
    assert {prediction.profile for prediction in PREDICTIONS} == fitted


@pytest.fixture(params=BUNDLED)
def profile(request: pytest.FixtureRequest) -> Profile:
    return load_profile(request.param)


def test_a_system_call_costs_pv_a_bounce_and_hvm_nothing(profile: Profile) -> None:
    native = profile.instructions["syscall"].cycles + profile.instructions["sysret"].cycles
    way_in = profile.instructions["syscall"].cycles + profile.paravirtual.bounce.cycles
    way_back = profile.instructions["syscall"].cycles + profile.paravirtual.hypercall.cycles
    assert way_in + way_back > 2 * native


def test_a_divide_error_costs_pv_a_bounce_and_hvm_nothing(profile: Profile) -> None:
    native = profile.exception.cycles + profile.instructions["iret"].cycles
    bounced = (
        profile.exception.cycles + profile.paravirtual.bounce.cycles + profile.paravirtual.hypercall.cycles
    )
    assert bounced > native


def test_a_page_table_write_is_dearest_by_shadow_paging_then_pv_then_nested(profile: Profile) -> None:
    shadow = profile.instructions["mov"].cycles + profile.exits[ExitReason.EXCEPTION_NMI].cycles
    pv = sum(
        figure.cycles
        for figure in (
            profile.instructions["syscall"],
            profile.paravirtual.hypercall,
            profile.paravirtual.update,
            profile.paravirtual.entry,
        )
    )
    nested = profile.instructions["mov"].cycles
    assert shadow > pv > nested


def test_a_tlb_miss_is_dearest_by_nested_paging(profile: Profile) -> None:
    assert NESTED_WALK * profile.page_reference.units > NATIVE_WALK * profile.page_reference.units > 0


def test_a_hypercall_is_cheaper_than_an_exit(profile: Profile) -> None:
    hypercall = profile.instructions["syscall"].cycles + profile.paravirtual.hypercall.cycles
    assert hypercall < profile.exits[ExitReason.VMCALL].cycles


def test_a_batch_is_cheaper_than_single_hypercalls(profile: Profile) -> None:
    single = profile.instructions["syscall"].cycles + profile.paravirtual.hypercall.cycles
    batched = profile.paravirtual.update.cycles
    assert batched < single, "an element of a list costs less than a call of its own"


def test_a_device_in_user_space_is_dearer_than_one_in_the_kernel(profile: Profile) -> None:
    assert profile.user_device.cycles > profile.exits[ExitReason.IO_INSTRUCTION].cycles
