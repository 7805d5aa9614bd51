"""Runs on a Dask cluster: the same results, a worker that dies costs its runs only, and what is wrong is said in time."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from missing import missing

import hvmx
from comparison.images import image
from hvmx.cli import Status, main
from hvmx.comparison import cluster
from hvmx.comparison.cluster import SchedulerError, carry_out_there
from hvmx.comparison.outcome import Comparison
from hvmx.comparison.runs import Guest, Run, carry_out
from hvmx.comparison.side_by_side import compared
from hvmx.comparison.ways import BY_NAME, WAYS
from hvmx.cost import load_profile

SKYLAKE = load_profile("skylake")
MEMORY = 64 << 20


@pytest.fixture
def workers() -> Iterator[Any]:
    """Two, of which one that dies is not tried again with what it ran."""
    if importlib.util.find_spec("distributed") is None:
        missing("Dask is not installed: pip install 'hvmx[dask]'")
    import dask
    from distributed import LocalCluster

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as local,
    ):
        yield local


def hvm_run(path: Path) -> Run:
    return Run(Guest(path), BY_NAME["ept"], SKYLAKE, MEMORY)


def test_a_cluster_gives_the_same_as_this_host(
    workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image(tmp_path, "halting")
    runs = [Run(Guest(), way, SKYLAKE, MEMORY) for way in WAYS] + [hvm_run(Path("halting"))]
    came: list[Any] = []
    assert compared(runs, scheduler=workers.scheduler_address, done=came.append) == Comparison(tuple(map(carry_out, runs)))
    assert len(came) == len(runs)


def test_what_a_run_comes_to_on_a_cluster_costs_no_other(workers: Any, tmp_path: Path) -> None:
    nowhere = hvm_run(tmp_path / "nowhere")
    pv = replace(hvm_run(image(tmp_path, "halting")), way=BY_NAME["pv"])
    too_large = replace(hvm_run(image(tmp_path, "halting")), memory=1 << 60)
    runs = [nowhere, pv, hvm_run(image(tmp_path, "crashing")), too_large, hvm_run(image(tmp_path, "halting"))]
    found = compared(runs, scheduler=workers.scheduler_address)
    assert [outcome.guest for outcome in found] == ["halting"]
    assert [refusal.way for refusal in found.refusals] == ["pv"]
    missing, crash, memory = (failure.why for failure in found.failures)
    assert missing == (
        f"{tmp_path}/nowhere cannot be read by a worker on {socket.gethostname()}: No such file or directory; "
        "it has to be there at the same path"
    )
    assert "triple fault" in crash
    assert memory.startswith("on the cluster: MemoryError: the host has no room for guest memory")


def test_a_worker_that_is_killed_costs_its_run_only(workers: Any, tmp_path: Path) -> None:
    runs = [hvm_run(image(tmp_path, "endless")), *(Run(Guest(), way, SKYLAKE, MEMORY) for way in WAYS)]
    others: list[Any] = []

    def kill_the_busy_one(result: object) -> None:
        others.append(result)
        if len(others) == len(WAYS):
            ((address, _),) = busy(workers)
            (worker,) = (each for each in workers.workers.values() if each.worker_address == address)
            os.kill(worker.pid, signal.SIGKILL)

    found = compared(runs, scheduler=workers.scheduler_address, done=kill_the_busy_one)
    assert list(found) == [carry_out(run) for run in runs[1:]]
    (failure,) = found.failures
    assert failure.guest == "endless" and failure.why.startswith("on the cluster: KilledWorker")


def busy(workers: Any) -> list[tuple[str, Any]]:
    from distributed import Client

    with Client(workers.scheduler_address, set_as_default=False) as client:
        return [(address, keys) for address, keys in client.processing().items() if keys]


def test_runs_do_not_wait_for_ever_for_a_worker_to_come_back(
    workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", 2.0)
    runs = [hvm_run(image(tmp_path, "halting")), hvm_run(image(tmp_path, "endless"))]
    workers.scheduler.allowed_failures = 9  # so that it is for others to do
    found = compared(runs, scheduler=workers.scheduler_address, done=lambda result: workers.scale(0))
    assert [outcome.guest for outcome in found] == ["halting"]
    assert [(failure.guest, failure.why) for failure in found.failures] == [
        ("endless", "there has been no worker for 2 s")
    ]


def test_a_worker_with_another_hvmx_says_so(tmp_path: Path) -> None:
    problem = carry_out_there(hvm_run(image(tmp_path, "halting")), "0.0.1")
    assert str(problem) == f"a worker on {socket.gethostname()} has hvmx {hvmx.__version__}, and not 0.0.1"


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1:{silent}", "tcp://127.0.0.1:{closed}"])
def test_where_no_scheduler_answers_the_error_names_the_address_in_time(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as closing:
        closed = closing.getsockname()[1]
        closing.close()
        address = address.format(silent=silent.getsockname()[1], closed=closed)
        begun = time.monotonic()
        with pytest.raises(SchedulerError, match=f"{address}: no Dask scheduler"):
            hvmx.compare(scheduler=address)
        assert time.monotonic() - begun < 10


def test_where_a_scheduler_has_no_workers_the_error_says_so(workers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", 1.0)
    workers.scale(0)
    until = time.monotonic() + 20
    while workers.scheduler_info["workers"]:
        assert time.monotonic() < until
    with pytest.raises(SchedulerError, match=f"{workers.scheduler_address}: the scheduler has had no worker for 1 s"):
        hvmx.compare(scheduler=workers.scheduler_address)


def test_without_dask_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["compare", "--scheduler", "tcp://127.0.0.1:8786"]) == Status.BAD_OPTION
    assert "pip install 'hvmx[dask]'" in capfd.readouterr().err
