"""What comes of many runs does not depend on where and when each is carried out, and none costs another."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from guests import guest

import hvmx
from comparison.images import image
from hvmx import guests
from hvmx.comparison import apart as apart_module
from hvmx.comparison.outcome import Comparison, Failure, Refusal
from hvmx.comparison.runs import Guest, Run, carry_out
from hvmx.comparison.side_by_side import Interrupted, compare, compared
from hvmx.comparison.ways import BY_NAME, WAYS
from hvmx.cost import BUNDLED, load_profile

MEMORY = 64 << 20
SKYLAKE = load_profile("skylake")


def hvm_run(path: Path, way: str = "ept", **limits: Any) -> Run:
    return Run(Guest(path), BY_NAME[way], SKYLAKE, MEMORY, **limits)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Those that runs have had."""
    started = []

    class Kept(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(apart_module.subprocess, "Popen", Kept)
    return started


@pytest.mark.parametrize("jobs", [1, 3, None])
def test_the_bundled_guest_comes_out_the_same_however_many_run_at_a_time(jobs: int | None) -> None:
    runs = [Run(Guest(), way, load_profile(name), MEMORY) for name in BUNDLED[:2] for way in WAYS]
    assert compared(runs, jobs=jobs) == Comparison(tuple(map(carry_out, runs)))


@pytest.mark.parametrize("way", ["ept", "shadow", "native"])
def test_a_guest_in_a_process_of_its_own_comes_out_as_in_this_one(way: str) -> None:
    run = hvm_run(guests.image("hvm64"), way)
    assert compared([run]) == Comparison((carry_out(run),))


@pytest.mark.parametrize("way", ["ept", "pv"])
def test_a_stock_kernel_comes_out_the_same_each_time(way: str) -> None:
    """One that runs long enough for addresses of the host to decide what the model of the pipeline keeps."""
    run = Run(Guest(guest("linux-amd64"), append="console=ttyS0"), BY_NAME[way], SKYLAKE, 2 * MEMORY, cycles=600_000_000)
    first, second = compared([run, run])
    assert first == second
    assert first.guest_cycles >= 600_000_000


def test_results_stand_in_the_order_of_the_runs_and_are_given_on_as_they_come(tmp_path: Path) -> None:
    slow, quick = hvm_run(image(tmp_path, "endless"), cycles=300_000_000), Run(Guest(), BY_NAME["pv"], SKYLAKE, MEMORY)
    came: list[Any] = []
    found = compared([slow, quick], jobs=2, done=came.append)
    assert [outcome.guest for outcome in found] == ["endless", "bundled"]
    assert [outcome.guest for outcome in came] == ["bundled", "endless"]


def test_a_guest_that_fails_costs_no_other_run(tmp_path: Path) -> None:
    runs = [hvm_run(image(tmp_path, "crashing")), hvm_run(image(tmp_path, "halting"))]
    found = compared(runs)
    assert [outcome.guest for outcome in found] == ["halting"]
    (failure,) = found.failures
    assert (failure.guest, failure.profile, failure.way) == ("crashing", "skylake", "ept")
    assert failure.why.startswith("crashing did not come to its end: triple fault")
    assert found.pairs() == [("halting", "skylake"), ("crashing", "skylake")]


def test_a_way_that_a_guest_cannot_run_is_refused_and_costs_no_other_run(tmp_path: Path) -> None:
    found = hvmx.compare(image(tmp_path, "halting"), ways=["pv", "shadow"], memory=MEMORY)
    assert [outcome.way for outcome in found] == ["shadow"]
    (refusal,) = found.refusals
    assert isinstance(refusal, Refusal) and refusal.way == "pv" and "Xen" in refusal.why
    assert not found.failures


def test_a_guest_that_takes_too_much_host_time_costs_no_other_run(tmp_path: Path) -> None:
    found = compared([hvm_run(image(tmp_path, "endless"), timeout=0.1), hvm_run(image(tmp_path, "halting"))])
    assert [outcome.guest for outcome in found] == ["halting"]
    assert [failure.guest for failure in found.failures] == ["endless"]
    assert "host-time limit" in found.failures[0].why


def test_a_limit_of_guest_cycles_is_a_good_end_of_any_guest(tmp_path: Path) -> None:
    for run in (hvm_run(image(tmp_path, "endless"), cycles=1_000_000), Run(Guest(), WAYS[0], SKYLAKE, MEMORY, 1_000_000)):
        (outcome,) = compared([run])
        assert 1_000_000 <= outcome.guest_cycles < 1_100_000
        assert "cycles" in outcome.end


def test_a_process_that_is_killed_costs_its_run_only(tmp_path: Path, processes: list[subprocess.Popen[bytes]]) -> None:
    runs = [hvm_run(image(tmp_path, "endless")), hvm_run(image(tmp_path, "halting"))]
    found = compared(runs, jobs=2, done=lambda result: [process.kill() for process in processes])
    assert list(found) == [carry_out(runs[1])]
    assert found.failures == (
        Failure("endless", "skylake", "ept", "the process that ran it was ended by SIGKILL"),
    )


@pytest.mark.filterwarnings("error")
def test_a_process_that_ends_before_it_has_been_asked_costs_its_run_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart_module, "_MAIN", "raise SystemExit(3)")
    more_than_a_pipe_holds = "x" * (1 << 20)
    run = Run(Guest(image(tmp_path, "halting"), append=more_than_a_pipe_holds), BY_NAME["ept"], SKYLAKE, MEMORY)
    found = compared([run, Run(Guest(), BY_NAME["ept"], SKYLAKE, MEMORY)])
    assert [outcome.guest for outcome in found] == ["bundled"]
    assert [failure.why for failure in found.failures] == ["the process that ran it ended with status 3"]


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_keeps_what_is_done_and_ends_the_rest(tmp_path: Path, processes: list[subprocess.Popen[bytes]]) -> None:
    endless, halting = image(tmp_path, "endless"), image(tmp_path, "halting")
    runs = [hvm_run(endless), hvm_run(halting), hvm_run(endless, "shadow")]
    with pytest.raises(Interrupted) as stopped:
        compared(runs, jobs=2, done=lambda result: signal.raise_signal(signal.SIGINT))
    assert list(stopped.value.comparison) == [carry_out(runs[1])]
    assert [(failure.way, failure.why) for failure in stopped.value.comparison.failures] == [
        ("ept", "stopped before its end"),
        ("shadow", "stopped before its end"),
    ]
    assert processes and all(process.poll() is not None for process in processes)


def test_a_process_ends_with_the_one_that_asked_for_the_run(tmp_path: Path) -> None:
    """However that ends, by SIGKILL even."""
    script = f"import hvmx; hvmx.compare({str(image(tmp_path, 'endless'))!r}, ways=['ept'])"
    with subprocess.Popen([sys.executable, "-c", script]) as asking:
        while not (children := list_children(asking.pid)):
            assert asking.poll() is None
        asking.kill()
    until = time.monotonic() + 20
    while any(map(is_running, children)):
        assert time.monotonic() < until


def is_running(pid: str) -> bool:
    """What has ended and nobody has asked about has no command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except FileNotFoundError:
        return False


def list_children(pid: int) -> list[str]:
    return [word for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]


def test_what_no_other_run_could_do_either_is_raised_with_the_trace_of_the_process(tmp_path: Path) -> None:
    run = Run(Guest(image(tmp_path, "halting")), BY_NAME["ept"], SKYLAKE, 1 << 60)
    with pytest.raises(MemoryError, match="no room for guest memory") as raised:
        compared([run])
    assert "carry_out" in str(raised.value.__cause__)


def test_images_of_one_name_are_told_apart_and_one_given_twice_runs_once(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    first, second = (image(folder, "halting") for folder in folders)
    found = compare(first, second, first, ways=["ept", "ept"], profiles=["skylake", "skylake"])
    assert [run.guest for run in found] == [str(first), str(second)]
    assert [run.guest for run in compare(first, ways=["ept"])] == ["halting"]

