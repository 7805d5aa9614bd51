"""Several runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path

from hvmx.cost import Profile, load_profile
from hvmx.machine import memory_size

from .outcome import Comparison, Outcome, Refusal
from .runs import Guest, NotThisWay, Run, carry_out
from .ways import BY_NAME


def compare(
    *images: str | PathLike[str],
    ways: Sequence[str] = tuple(BY_NAME),
    profiles: Sequence[str | Profile] = ("skylake",),
    initrd: str | PathLike[str] | None = None,
    append: str = "",
    workloads: Sequence[str] = (),
    memory: str | int = "128M",
    cycles: int | None = None,
    timeout: float | None = None,
    explain: bool = True,
    done: Callable[[Outcome | Refusal], object] = lambda result: None,
) -> Comparison:
    """Run guests in several ways under several profiles: the kernels in ``images``, or the bundled guest.

    ``ways`` are names of ``WAYS``, ``profiles`` names of bundled profiles, paths, or profiles themselves; ``initrd`` goes with
    images, ``workloads`` with the bundled guest, ``append`` with the command line of either. A run ends after ``cycles`` guest
    cycles, and fails after ``timeout`` seconds of host time. Without ``explain`` operations have no ledgers, and a run of the
    bundled guest takes half the host time. ``done`` is called with each result as it comes.

    A way that the guest cannot run is among the refusals. ValueError for a name that there is not, ``ProfileError`` for a bad
    profile, ``GuestFailed`` where a guest does not come to its end.
    """
    if unknown := [name for name in ways if name not in BY_NAME]:
        raise ValueError(f"no way {unknown[0]!r}: there are {', '.join(BY_NAME)}")
    disk = None if initrd is None else Path(initrd)
    compared_guests = [Guest(Path(image), disk, append) for image in images] or [Guest(None, None, append, tuple(workloads))]
    loaded = [profile if isinstance(profile, Profile) else load_profile(profile) for profile in profiles]
    runs = [
        Run(guest, BY_NAME[way], profile, memory_size(memory), cycles, timeout, explain)
        for guest in compared_guests
        for profile in loaded
        for way in ways
    ]
    return compared(runs, done)


def compared(runs: Sequence[Run], done: Callable[[Outcome | Refusal], object] = lambda result: None) -> Comparison:
    """The outcomes of these runs, in their order."""
    results: list[Outcome | Refusal] = []
    for run in runs:
        try:
            result: Outcome | Refusal = carry_out(run)
        except NotThisWay as problem:
            result = Refusal(run.guest.name, run.profile.name, run.way.name, str(problem))
        results.append(result)
        done(result)
    return Comparison(
        tuple(result for result in results if isinstance(result, Outcome)),
        tuple(result for result in results if isinstance(result, Refusal)),
    )
