"""Which run is carried out when and where: on all cores of this host, or on those of a Dask cluster.

A run depends on nothing but what its `Run` says, so that it does not matter. On this host the bundled guest runs in threads:
a run takes some 30 ms of host time, and the core has no need of Python's lock while the guest runs. On two busy cores the four
ways took 0.13 s in threads and in forked processes, and 0.6 s in new ones, each of which imports hvmx first; the whole command
0.48 s, where it took 0.57 s one run after another.

A guest of the user's own, which may need minutes and much memory, has a process for each run. For the time that it takes
threads would do as well: Debian's kernel spends 2 to 3 % of its host time up to /init in exit handlers, which hold the lock,
and four boots took as much processor time in threads as in processes (21.6 and 22.1 s, with the imports). But one that the
host ends, for want of memory say, takes no other along, and Ctrl-C need not wait for any.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TypeAlias

from .apart import Processes
from .cluster import cluster
from .outcome import Failure, Outcome, Refusal
from .runs import GuestFailed, NotThisWay, Run, WorkerFailed, carry_out

Result: TypeAlias = "Outcome | Refusal | Failure"


def results_of(runs: Sequence[Run], jobs: int | None, scheduler: str | None) -> Generator[tuple[int, Result], None, None]:
    """The place of each run and what came of it, as they come.

    ``jobs`` are as many at a time on this host, by default one on each core; ``scheduler`` is the address of a Dask scheduler
    whose workers carry them out. What is not the affair of one run is raised: ``SchedulerError`` where there is no cluster,
    and whatever else `carry_out` has.
    """
    with this_host(jobs) if scheduler is None else cluster(scheduler) as submit:
        ended: SimpleQueue[Future[Outcome]] = SimpleQueue()
        places = {}
        for place, run in enumerate(runs):
            future = submit(run)
            places[future] = place
            future.add_done_callback(ended.put)
        for _ in runs:
            future = ended.get()
            yield places[future], _result(runs[places[future]], future)


def _result(run: Run, future: Future[Outcome]) -> Result:
    try:
        return future.result()
    except NotThisWay as problem:
        return Refusal(run.guest.name, run.profile.name, run.way.name, str(problem))
    except (GuestFailed, WorkerFailed) as problem:
        return Failure(run.guest.name, run.profile.name, run.way.name, str(problem))


@contextmanager
def this_host(jobs: int | None) -> Iterator[Callable[[Run], Future[Outcome]]]:
    """Carries out so many runs at a time. What has not ended by the end is given up."""
    threads = ThreadPoolExecutor(jobs or len(os.sched_getaffinity(0)))
    processes = Processes()
    try:
        yield lambda run: threads.submit(carry_out if run.guest.image is None else processes.carry_out, run)
    finally:
        processes.close()
        threads.shutdown(cancel_futures=True)
