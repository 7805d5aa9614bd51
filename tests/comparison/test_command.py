"""What `hvmx compare` makes of runs that do not come to their end, and what is seen of those under way."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import sys
import time
from collections.abc import Callable

import pytest

from hvmx.cli import Status, main, progress
from hvmx.comparison import schedule
from hvmx.comparison.outcome import Outcome
from hvmx.comparison.runs import GuestFailed, Run, carry_out

OPERATION = "cpuid"


@pytest.fixture
def before_each_run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Run], object]], None]:
    """Lets something happen, in the thread of each run."""

    def use(happens: Callable[[Run], object]) -> None:
        def carry_out_then(run: Run) -> Outcome:
            happens(run)
            return carry_out(run)

        monkeypatch.setattr(schedule, "carry_out", carry_out_then)

    return use


def fail_in_shadow(run: Run) -> None:
    if run.way.name == "shadow":
        raise GuestFailed("\n".join(["hvm64 did not come to its end: a test", *(f"line {n}" for n in range(99))]))


def test_a_failed_run_is_named_with_its_last_words_and_the_others_are_shown(
    before_each_run: Callable[[Callable[[Run], object]], None], capfd: pytest.CaptureFixture[str]
) -> None:
    before_each_run(fail_in_shadow)
    assert main(["compare", OPERATION]) == Status.CRASH
    table, said = capfd.readouterr()
    (row,) = (line.split() for line in table.splitlines() if line.startswith(OPERATION))
    assert len(row) == 1 + 3 * len(["ept", "pv", "native"])
    assert said.splitlines() == [
        "hvmx: bundled, HVM, shadow paging, skylake: hvm64 did not come to its end: a test",
        "...",
        *(f"line {n}" for n in range(91, 99)),
    ]


def test_a_failed_run_is_in_the_json_whole(
    before_each_run: Callable[[Callable[[Run], object]], None], capfd: pytest.CaptureFixture[str]
) -> None:
    before_each_run(fail_in_shadow)
    assert main(["compare", "--json", OPERATION]) == Status.CRASH
    data = json.loads(capfd.readouterr().out)
    assert [outcome["way"] for outcome in data["outcomes"]] == ["ept", "pv", "native"]
    (failure,) = data["failures"]
    assert (failure["guest"], failure["profile"], failure["way"]) == ("bundled", "skylake", "shadow")
    assert failure["why"].endswith("line 50\n" + "\n".join(f"line {n}" for n in range(51, 99)))


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_shows_the_runs_that_had_ended_and_names_the_others(
    before_each_run: Callable[[Callable[[Run], object]], None], capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt_pv(run: Run) -> None:
        if run.way.name == "pv":
            time.sleep(1)  # those before it have been taken note of
            signal.raise_signal(signal.SIGINT)

    before_each_run(interrupt_pv)
    assert main(["compare", "--jobs", "1", "--json", OPERATION]) == Status.INTERRUPTED
    out, said = capfd.readouterr()
    assert [outcome["way"] for outcome in json.loads(out)["outcomes"]] == ["ept", "shadow"]
    assert said.splitlines() == [
        "hvmx: bundled, PV, skylake: stopped before its end",
        "hvmx: bundled, native, skylake: stopped before its end",
    ]


def test_where_no_run_came_to_its_end_there_is_no_table(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--timeout", "0.001", "--ways", "ept,pv"]) == Status.CRASH
    table, said = capfd.readouterr()
    assert table == ""
    assert said.count("the host-time limit is reached") == 2


def test_limits_and_jobs_reach_the_runs(
    before_each_run: Callable[[Callable[[Run], object]], None], capfd: pytest.CaptureFixture[str]
) -> None:
    runs: list[Run] = []
    before_each_run(runs.append)
    assert main(["compare", "--jobs", "1", "--max-cycles", "1000000", "--timeout", "30", "--json"]) == Status.GOOD
    assert [(run.cycles, run.timeout) for run in runs] == [(1_000_000, 30.0)] * 4
    for outcome in json.loads(capfd.readouterr().out)["outcomes"]:
        assert 1_000_000 <= outcome["totals"]["guest_cycles"] < 1_100_000


def test_workers_are_those_of_this_host_or_of_a_cluster(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--jobs", "2", "--scheduler", "tcp://127.0.0.1:8786"]) == Status.BAD_OPTION
    assert "--jobs is of this host" in capfd.readouterr().err


# --- progress -----------------------------------------------------------------------------------------------------------
def seen_on_a_terminal(monkeypatch: pytest.MonkeyPatch, work: Callable[[Callable[[object], None]], None]) -> str:
    """What steps of work leave there."""
    person, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stderr, os.fdopen(person, "rb", buffering=0) as screen:
        monkeypatch.setattr(sys, "stderr", stderr)
        monkeypatch.setenv("TERM", "xterm")
        with progress.steps("runs", 4) as step:
            work(step)
        monkeypatch.undo()
        stderr.write("END")
        stderr.flush()
        seen = b""
        while b"END" not in seen:
            seen += screen.read(1 << 16)
    return seen.decode().removesuffix("END")


def test_work_that_takes_a_while_has_a_bar_with_an_estimate_of_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(step: Callable[[object], None]) -> None:
        time.sleep(2)
        step(None)
        time.sleep(1)
        step(None)
        time.sleep(0.5)

    seen = seen_on_a_terminal(monkeypatch, work)
    assert "runs" in seen and "0/4" in seen and "2/4" in seen
    estimates = [int(seconds) for seconds in re.findall(r"about (\d+) s left", seen)]
    assert estimates[0] >= 5 and estimates[-1] <= estimates[0] - 2  # three steps of 2 s, then two of 1.5 s


def test_work_that_is_soon_done_has_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen_on_a_terminal(monkeypatch, lambda step: step(None)) == ""


def test_there_is_no_bar_where_nobody_looks(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "SOON", 0.0)
    with progress.steps("runs", 1) as step:
        time.sleep(0.3)
        step(None)
    assert capfd.readouterr() == ("", "")
