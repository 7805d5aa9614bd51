"""Several runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from os import PathLike
from pathlib import Path

from hvmx.cost import Profile, load_profile
from hvmx.machine import memory_size

from .outcome import Comparison, Failure, Outcome, Refusal
from .runs import Guest, Run
from .schedule import Result, results_of
from .ways import BY_NAME


class Interrupted(KeyboardInterrupt):
    """Ctrl-C. ``comparison`` has the runs that had ended, and the others among its failures."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__()
        self.comparison = comparison


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
    timeline: bool = False,
    jobs: int | None = None,
    scheduler: str | None = None,
    done: Callable[[Result], object] = lambda result: None,
) -> Comparison:
    """Run guests in several ways under several profiles: the kernels in ``images``, or the bundled guest.

    ``ways`` are names of ``WAYS``, ``profiles`` names of bundled profiles, paths, or profiles themselves; ``initrd`` goes with
    images, ``workloads`` with the bundled guest, ``append`` with the command line of either. A run ends after ``cycles`` guest
    cycles, and fails after ``timeout`` seconds of host time. Without ``explain`` operations have no ledgers, and a run of the
    bundled guest takes half the host time. With ``timeline`` outcomes have what happened when, up to a million events each.

    ``jobs`` runs at a time are carried out on this host, by default one on each core; or all by the workers of the Dask
    scheduler at the address ``scheduler`` (``pip install 'hvmx[dask]'``). What comes out is the same, bit for bit, but for
    host time. ``done`` is called with each result as it comes.

    A way that the guest cannot run is among the refusals of what is returned; a run whose guest or worker did not come to its
    end is among the failures, and costs no other. ValueError for a name that there is not, ``ProfileError`` for a bad profile,
    ``SchedulerError`` where there is no Dask cluster, ``Interrupted`` with what is done, which is a ``KeyboardInterrupt``, for
    Ctrl-C, ``FileNotFoundError`` where the package was built without guests, ``MemoryError`` where the host has too little.
    """
    if unknown := [name for name in ways if name not in BY_NAME]:
        raise ValueError(f"no way {unknown[0]!r}: there are {', '.join(BY_NAME)}")
    disk = None if initrd is None else Path(initrd)
    paths = [Path(image) for image in dict.fromkeys(images)]
    names = [path.name for path in paths]
    compared_guests = [
        Guest(path, disk, append, label=str(path) if names.count(path.name) > 1 else None) for path in paths
    ]
    loaded = [profile if isinstance(profile, Profile) else load_profile(profile) for profile in profiles]
    runs = [
        Run(guest, BY_NAME[way], profile, memory_size(memory), cycles, timeout, explain, timeline)
        for guest in compared_guests or [Guest(append=append, workloads=tuple(workloads))]
        for profile in {profile.name: profile for profile in loaded}.values()
        for way in dict.fromkeys(ways)
    ]
    return compared(runs, jobs=jobs, scheduler=scheduler, done=done)


def compared(
    runs: Sequence[Run],
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
    done: Callable[[Result], object] = lambda result: None,
) -> Comparison:
    """What came of these runs, in their order; the rest is as with `compare`."""
    results: dict[int, Result] = {}
    try:
        with closing(results_of(runs, jobs, scheduler)) as arriving:
            for place, result in arriving:
                results[place] = result
                done(result)
    except KeyboardInterrupt as stop:
        raise Interrupted(_in_order(runs, results)) from stop
    return _in_order(runs, results)


def _in_order(runs: Sequence[Run], results: Mapping[int, Result]) -> Comparison:
    """Those without a result were stopped."""
    all_of_them = [
        results.get(place) or Failure(run.guest.name, run.profile.name, run.way.name, "stopped before its end")
        for place, run in enumerate(runs)
    ]
    return Comparison(
        tuple(result for result in all_of_them if isinstance(result, Outcome)),
        tuple(result for result in all_of_them if isinstance(result, Refusal)),
        tuple(result for result in all_of_them if isinstance(result, Failure)),
    )
