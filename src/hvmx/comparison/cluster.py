"""Runs on the workers of a Dask cluster (https://distributed.dask.org), an extra: ``pip install 'hvmx[dask]'``.

A worker needs the same hvmx, and the image and the initial RAM disk at the same path. Dask gives a run whose worker has died
to another one, as often as its ``distributed.scheduler.allowed-failures`` says; then that run has failed. One that is under way
when it is given up goes on there to its end, or to its limits.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from hvmx import __version__

from .outcome import Outcome
from .runs import Guest, GuestFailed, NotThisWay, Run, WorkerFailed, carry_out

if TYPE_CHECKING:
    import distributed

PATIENCE = 10.0
"""Seconds of host time in which a scheduler has to answer, and its first worker to be there; a lost one is waited for as long."""


class SchedulerError(RuntimeError):
    """There is no Dask cluster to be had; the message says why."""


@contextmanager
def cluster(address: str) -> Iterator[Callable[[Run], Future[Outcome]]]:
    """Carries out runs there. What has not ended by the end is given up."""
    with _client(address) as client:
        waiting: set[Future[Outcome]] = set()

        def submit(run: Run) -> Future[Outcome]:
            future: Future[Outcome] = Future()
            waiting.add(future)
            future.add_done_callback(waiting.discard)
            there = replace(run, guest=_anywhere(run.guest))
            # Not pure: otherwise Dask would take runs for one that are pickled alike, and answer from another comparison's.
            client.submit(carry_out_there, there, __version__, pure=False).add_done_callback(
                lambda theirs: _settle(future, theirs)
            )
            return future

        over = threading.Event()
        watch = threading.Thread(target=_watch, args=(client, waiting, over), daemon=True)
        watch.start()
        try:
            yield submit
        finally:
            over.set()
            watch.join()


def _client(address: str) -> distributed.Client:
    import asyncio  # slow to import

    try:
        from distributed import Client, TimeoutError
    except ImportError as problem:
        raise SchedulerError("a cluster needs Dask: pip install 'hvmx[dask]'") from problem
    try:
        # In a thread, since the caller may have an event loop of its own.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, _knock(address)).result()
    except TimeoutError as problem:
        raise SchedulerError(f"{address}: no Dask scheduler has answered for {PATIENCE:g} s") from problem
    except Exception as problem:  # whatever Dask makes of what another server answers
        raise SchedulerError(f"{address}: no Dask scheduler: {problem}") from problem
    client = Client(address, timeout=PATIENCE, set_as_default=False)
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError as problem:
        client.close()
        raise SchedulerError(f"{address}: the scheduler has had no worker for {PATIENCE:g} s") from problem
    return client


async def _knock(address: str) -> None:
    """Ask who is there: a client of Dask's waits longer than it is told, and complains when it is given up."""
    import asyncio

    from distributed import Security
    from distributed.core import rpc

    async with rpc(address, connection_args=Security().get_connection_args("client")) as there:
        await asyncio.wait_for(there.identity(), PATIENCE)


def _anywhere(guest: Guest) -> Guest:
    """The guest with paths that do not depend on the current directory."""
    return replace(
        guest,
        image=guest.image and guest.image.absolute(),
        initrd=guest.initrd and guest.initrd.absolute(),
    )


def carry_out_there(run: Run, version: str) -> Outcome | Exception:
    """On a worker. What a run can come to is returned, be it an exception: what is raised is an error in Dask's log."""
    here = socket.gethostname()
    if version != __version__:
        return WorkerFailed(f"a worker on {here} has hvmx {__version__}, and not {version}")
    for path in filter(None, (run.guest.image, run.guest.initrd)):
        try:
            path.open("rb").close()
        except OSError as problem:
            return WorkerFailed(
                f"{path} cannot be read by a worker on {here}: {problem.strerror}; it has to be there at the same path"
            )
    try:
        return carry_out(run)
    except (NotThisWay, GuestFailed) as problem:
        return problem


def _settle(future: Future[Outcome], theirs: distributed.Future) -> None:
    """Give on what came of it; whatever befell a worker, memory that it lacks too, is the affair of this run only."""
    result: Outcome | Exception
    try:
        result = theirs.result()
    except Exception as problem:  # noqa: BLE001 - those of Dask and of whatever a worker lacks
        result = WorkerFailed(f"on the cluster: {type(problem).__name__}: {problem}")
    with suppress(InvalidStateError):  # it has been given up
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)


def _watch(client: distributed.Client, waiting: set[Future[Outcome]], over: threading.Event) -> None:
    """Where the last worker is gone, or the scheduler, Dask waits for ever for others to come."""
    missing = 0
    while not over.wait(1):
        try:
            missing = 0 if client.ncores() else missing + 1
        except Exception:  # noqa: BLE001 - the scheduler does not answer
            missing += 1
        if missing >= PATIENCE:
            for future in list(waiting):
                with suppress(InvalidStateError):  # it has just ended
                    future.set_exception(WorkerFailed(f"there has been no worker for {PATIENCE:g} s"))
