"""`hvmx compare --perfetto`: all ways in one trace, a process each, with the exits and hypercalls that were counted."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from report.trace_processor import TraceProcessor

from hvmx.cli import Status, main

COUNTED = """select process.name as way, count(*) as slices from slice
join process_track track on slice.track_id = track.id join process using (upid)
where track.name = '{}' group by process.name"""


def test_a_query_finds_each_ways_exits_and_hypercalls(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace"
    assert main(["compare", "--perfetto", str(trace), "--json", "syscall", "cpuid", "pt-write"]) == Status.GOOD
    outcomes = {run["way"]: run for run in json.loads(capfd.readouterr().out)["outcomes"]}
    titles = {"ept": "HVM, nested paging", "shadow": "HVM, shadow paging", "pv": "PV"}
    with closing(TraceProcessor(trace.read_bytes())) as processor:
        exits = dict(processor.query(COUNTED.format("exits")))
        calls = dict(processor.query(COUNTED.format("hypercalls")))
    for way, title in titles.items():
        (name,) = (name for name in exits if name.startswith(f"bundled, {title}, skylake"))
        assert exits[name] == outcomes[way]["totals"]["exits"], way
    (name,) = (name for name in calls if name.startswith("bundled, PV, skylake"))
    assert calls[name] == sum(row["count"] for row in outcomes["pv"]["hypercalls"].values())


def test_a_trace_that_cannot_be_written_is_named_before_the_runs(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--perfetto", "/nowhere/at/all"]) == Status.BAD_OPTION
    assert "--perfetto: /nowhere/at/all: cannot be written" in capfd.readouterr().err
