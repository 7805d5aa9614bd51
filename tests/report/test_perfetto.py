"""What --perfetto writes: Perfetto's own trace processor finds in it what the machine has counted, in guest cycles."""

from __future__ import annotations

import io
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path

import pytest
from core.machine import CODE, assemble
from test_cli import ANNOUNCE, SPIN_ON_PORTS, command, flat
from test_hypercalls import NOTHING, calling

from hvmx import ExitReason, Machine, guests
from hvmx.cli import Status, main
from hvmx.report.perfetto import Timeline, write_trace
from report.trace_processor import TraceProcessor

SLICES = """select slice.name as name, ts, dur, depth from slice
join process_track track on slice.track_id = track.id where track.name = '{}' order by ts, depth"""
ERRORS = "select name, value from stats where severity in ('error', 'data_loss') and value > 0"
WORKLOADS = "checks=no workloads=syscall,pgfault,timer-tick,ctx-switch,cpuid,pt-write-batch"


def traced(*machines: tuple[str, Machine]) -> bytes:
    out = io.BytesIO()
    write_trace(out, [Timeline(name, *machine.cpu.timeline()) for name, machine in machines])
    return out.getvalue()


Find = Callable[..., tuple[Machine, TraceProcessor]]


@pytest.fixture(scope="module")
def find() -> Iterator[Find]:
    """A bundled guest that has run, and the trace processor with its trace."""
    with ExitStack() as stack:

        @cache
        def found(name: str, paging: str = "ept") -> tuple[Machine, TraceProcessor]:
            machine = Machine("64M", "skylake", paging=paging)
            machine.load(guests.image(name), pv=name.startswith("pv"), append=WORKLOADS)
            machine.cpu.keep_timeline()
            machine.run()
            return machine, stack.enter_context(closing(TraceProcessor(traced((name, machine)))))

        yield found


@pytest.mark.parametrize(("name", "paging"), [("hvm64", "ept"), ("hvm64", "shadow"), ("hvm32", "ept"), ("pv64", "ept")])
def test_a_query_finds_the_exits_that_were_counted_with_what_they_cost(find: Find, name: str, paging: str) -> None:
    machine, processor = find(name, paging)
    assert processor.query(ERRORS) == []
    found = processor.query(SLICES.format("exits"))
    statistics = machine.exits.statistics()
    counted = {ExitReason(reason).name: row.count for reason, row in statistics.items()}
    assert Counter(name for name, *_ in found) == counted
    # A slice has the whole cycles that end in it: one more or less than it took.
    assert abs(sum(row[2] for row in found) - sum(row.guest_cycles for row in statistics.values())) <= len(found)


def test_an_exit_says_what_it_was_about(find: Find) -> None:
    machine, processor = find("hvm64")
    found = processor.query(
        "select extract_arg(arg_set_id, 'debug.port') as port, count(*) as n from slice "
        "where name = 'IO_INSTRUCTION' group by port"
    )
    ports = machine.exits.statistics()[ExitReason.IO_INSTRUCTION].detail
    assert dict(found) == {port: row.count for port, row in ports.items()}


def test_hypercalls_of_a_pv_guest_have_their_names_and_those_of_a_list_are_within_it(find: Find) -> None:
    machine, processor = find("pv64")
    found = processor.query(SLICES.format("hypercalls"))
    outer = Counter(name for name, _, _, depth in found if depth == 0)
    assert outer.total() == machine.cpu.counters()["hypercalls"]
    assert {"iret", "mmu_update", "multicall", "mmuext_op"} <= set(outer)
    assert processor.query(
        "select distinct parent.name as name from slice join slice parent on slice.parent_id = parent.id"
    ) == [("multicall",)]


def test_hypercalls_of_an_hvm_guest_are_among_its_exits_and_have_their_names() -> None:
    machine = calling(NOTHING, 99)
    machine.cpu.keep_timeline()
    machine.run()
    with closing(TraceProcessor(traced(("mine", machine)))) as processor:
        calls = processor.query(SLICES.format("hypercalls"))
        exits = processor.query(SLICES.format("exits"))
    assert [name for name, *_ in calls] == ["vapic_poll_irq", "hypercall 99"]
    assert [row[1:] for row in calls] == [row[1:] for row in exits if row[0] == "VMCALL"]


@pytest.mark.parametrize(("name", "levels"), [("hvm64", {"CPL 0", "CPL 3"}), ("pv64", {"kernel", "user"})])
def test_privilege_levels_and_address_spaces_fill_the_axis_of_guest_cycles(
    find: Find, name: str, levels: set[str]
) -> None:
    machine, processor = find(name)
    privileges = processor.query(SLICES.format("privilege"))
    spaces = processor.query(SLICES.format("address space"))
    assert {row[0] for row in privileges} == levels
    assert all(row[0].startswith("CR3 0x") for row in spaces)
    for rows in (privileges, spaces):
        assert rows[0][1] == 0
        assert sum(row[2] for row in rows) == machine.cpu.cycles
        assert all(row[3] == 0 for row in rows)


def test_interrupts_and_exceptions_are_instants_with_their_names(find: Find) -> None:
    machine, processor = find("hvm64")
    found = processor.query(SLICES.format("interrupts and exceptions"))
    names = Counter(row[0] for row in found)
    assert names["interrupt 0x20"] == machine.cpu.counters()["interrupts"] > 0
    assert names["#PF"] > 0
    assert {row[2] for row in found} == {0}
    ((nowhere,),) = processor.query(
        "select count(*) as n from slice where name = '#PF' and extract_arg(arg_set_id, 'debug.address') is null"
    )
    assert nowhere == 0


def test_each_of_several_guests_is_a_process_that_says_what_its_axis_is(find: Find) -> None:
    trace = traced(("one", find("hvm64")[0]), ("two", find("pv64")[0]))
    with closing(TraceProcessor(trace)) as processor:
        names = processor.query("select name from process where name is not null order by name")
        tracks = processor.query("select name, count(distinct upid) as n from process_track where name = 'exits'")
    assert names == [("one [1 ns = 1 guest cycle]",), ("two [1 ns = 1 guest cycle]",)]
    assert tracks == [("exits", 2)]


def test_what_had_no_room_is_said_in_the_trace(find: Find) -> None:
    spans, _ = find("hvm64")[0].cpu.timeline()
    out = io.BytesIO()
    write_trace(out, [Timeline("mine", spans, 1234)])
    with closing(TraceProcessor(out.getvalue())) as processor:
        ((name, *_),) = processor.query(SLICES.format("not recorded"))
    assert name == "1,234 more, for which there was no room"


# --- hvmx run -----------------------------------------------------------------------------------------------------------
def test_ctrl_c_keeps_the_trace(tmp_path: Path) -> None:
    trace = tmp_path / "trace.pftrace"
    with subprocess.Popen(
        command([*flat(tmp_path, ANNOUNCE + SPIN_ON_PORTS), "--perfetto", str(trace)]),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.read(1) == b"!", "the guest runs"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == Status.INTERRUPTED
    with closing(TraceProcessor(trace.read_bytes())) as processor:
        assert processor.query(ERRORS) == []
        assert len(processor.query(SLICES.format("exits"))) > 0


def test_a_run_with_a_limit_has_a_trace_that_names_its_guest(tmp_path: Path) -> None:
    image, trace = tmp_path / "guest.bin", tmp_path / "trace.pftrace"
    image.write_bytes(assemble(64, ["1: cpuid; jmp 1b"])[0])
    arguments = ["--load-address", hex(CODE), "--bits", "64", "--serial", "null", "--quiet", "--max-cycles", "100000"]
    assert main(["run", *arguments, "--perfetto", str(trace), str(image)]) == Status.LIMIT
    with closing(TraceProcessor(trace.read_bytes())) as processor:
        assert len(processor.query(SLICES.format("exits"))) > 50
        assert processor.query("select name from process where name is not null") == [
            ("guest.bin (ept, skylake) [1 ns = 1 guest cycle]",)
        ]
