"""One run of a guest by the command line: from its options to the exit status."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from hvmx.boot import ImageError
from hvmx.cli.interruptions import Terminated, time_limit
from hvmx.cli.options import profile_as_asked
from hvmx.cli.status import status_of
from hvmx.cli.table import print_table
from hvmx.cost import BUNDLED
from hvmx.stops import Stop, StopKind

if TYPE_CHECKING:
    from hvmx.cli.outputs import Outputs, Report
    from hvmx.hvm.console import KeySource, StreamSink
    from hvmx.hvm.input_log import Log
    from hvmx.machine import Machine
    from hvmx.report.symbols import Symbols

_INTERRUPTIONS = {KeyboardInterrupt: "interrupted", Terminated: "terminated"}
"""How a run is said to have ended that nothing in the machine ended."""


@dataclass(frozen=True)
class _Ready:
    """A machine that is loaded, with its files open."""

    machine: Machine
    keys: KeySource | None
    outputs: Outputs
    trace: TextIO | None
    reports: dict[str, Report]
    symbols: Symbols | None
    """For --hot."""


class Session:
    """One ``hvmx run``; ``options`` are the command's, with the image that they stand for."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.until = None if options["timeout"] is None else time.monotonic() + options["timeout"]
        self.host_seconds = 0.0

    def run(self) -> int:
        """Run the guest and write the reports; the exit status."""
        with ExitStack() as stack:
            with time_limit(self.until):
                ready = self._ready(stack)
            if ready.keys is not None:
                stack.enter_context(ready.keys)
            stop = self._run(ready)
        return status_of(stop)

    def _ready(self, stack: ExitStack) -> _Ready:
        from hvmx.cli.outputs import Outputs

        outputs = Outputs(self._outputs(), self._inputs())
        log = self._input_log()
        serial = outputs.sink("serial")
        keys = self._keys(serial) if log is None else None
        machine = self._machine(serial, keys, outputs.sink("debugcon"))
        self._load(machine)
        symbols = self._symbols()
        if symbols is not None:
            machine.cpu.find_hot()
        if self.options["perfetto"] is not None:
            machine.cpu.keep_timeline()
        if log is not None:
            assert machine.board is not None
            machine.board.input.replay(log.entries)
        return _Ready(machine, keys, outputs, *outputs.open(stack, self.until), symbols)

    def _run(self, ready: _Ready) -> Stop:
        """Run the guest, and write what there is to say of it, also where the run ends by an exception."""
        stop: Stop | None = None
        ended = ""
        start = time.perf_counter()
        try:
            stop = self._go(ready.machine, ready.trace)
            ended = stop.reason or stop.kind.value
        except BaseException as problem:
            ended = _INTERRUPTIONS.get(type(problem)) or f"{type(problem).__name__}: {problem}"
            raise
        finally:
            self.host_seconds = time.perf_counter() - start
            if stop is not None:
                ready.outputs.flush()
            self._report(ready, stop, ended)
        return stop

    def _report(self, ready: _Ready, stop: Stop | None, ended: str) -> None:
        """Write the reports: each of them, whatever becomes of the others. The first is that of the last line."""
        machine, reports = ready.machine, ready.reports
        with ExitStack() as stack:
            if "perfetto" in reports:
                stack.callback(self._perfetto, machine, reports["perfetto"])
            if ready.symbols is not None:
                stack.callback(self._hot, machine, ready.symbols, reports["hot"])
            stack.callback(self._finish, machine, stop, ended, reports.get("stats"))
            if "record" in reports:
                stack.callback(self._record, machine, reports["record"])

    def _keys(self, serial: StreamSink | None) -> KeySource | None:
        """What the guest's input comes from."""
        from hvmx.hvm.console import KeySource

        if self.options["serial"] != "stdio" or sys.stdin is None:
            return None
        return KeySource(flush=None if serial is None else serial.flush)

    def _machine(
        self, serial: StreamSink | None, keys: KeySource | None, debug_console: StreamSink | None
    ) -> Machine:
        from hvmx.hvm.console import null_sink
        from hvmx.machine import Machine

        options = self.options
        try:
            return Machine(
                options["memory"],
                profile_as_asked(options["profile"], options["caches"]),
                cpu=options["cpu"],
                paging=options["paging"],
                serial=serial or null_sink,
                keys=keys,
                debug_exit=options["debug_exit"],
                debugcon=options["debugcon"] and (options["debugcon"][0], debug_console or null_sink),
                seed=options["seed"],
            )
        except (ValueError, MemoryError) as problem:  # of ports that are taken, of more memory than there is
            raise click.UsageError(str(problem)) from problem

    def _load(self, machine: Machine) -> None:
        options = self.options
        try:
            machine.load(
                options["image"],
                pv=options["pv"],
                append=options["append"],
                initrd=options["initrd"],
                modules=options["modules"],
                bios=options["bios"],
                load_address=options["load_address"],
                entry=options["entry"],
                bits=None if options["bits"] is None else int(options["bits"]),
                decompress=not options["no_decompress"],
            )
        except ValueError as problem:
            if isinstance(problem, ImageError):
                raise
            raise click.UsageError(str(problem)) from problem

    def _go(self, machine: Machine, trace: TextIO | None) -> Stop:
        from hvmx.debug.trace import run_traced, trace_exits, trace_hypercalls

        run = machine.run
        if trace is not None:
            match self.options["trace"][0]:
                case "instructions":
                    run = partial(run_traced, machine, trace)
                case "hypercalls":
                    trace_hypercalls(machine, trace)
                case "exits":
                    trace_exits(machine, trace)
        timeout = None if self.until is None else max(self.until - time.monotonic(), 0.0)
        try:
            return run(self.options["max_cycles"], timeout)
        except TimeoutError as problem:
            where = problem.filename or "standard output or error"
            return Stop(StopKind.TIMEOUT, reason=f"timeout: {where}: {problem.strerror}")

    def _outputs(self) -> dict[str, str | int]:
        """The files to write, by option; a standard stream that is closed is done without."""
        stdout, stderr = (None if stream is None else stream.fileno() for stream in (sys.stdout, sys.stderr))
        options = self.options
        serial = {"stdio": stdout, "null": None}.get(options["serial"], options["serial"])
        if serial == "-":
            raise click.UsageError("--serial: -: standard input and output are called stdio here")
        named = {"serial": serial, **{name: options[name] for name in ("stats", "record", "hot", "perfetto")}}
        for option in ("debugcon", "trace"):
            named[option] = options[option] and (options[option][1] or stderr)
        return {option: place for option, place in named.items() if place is not None}

    def _inputs(self) -> dict[str, Path | int]:
        """The files that are read."""
        options = self.options
        files = {
            "the image": options["image"],
            **{f"--{name}": options[name] for name in ("bios", "initrd", "replay", "symbols")},
        }
        files |= {f"--module {module}": module for module in options["modules"]}
        if options["profile"].name not in BUNDLED:
            files["--profile"] = options["profile"].name
        inputs: dict[str, Path | int] = {what: Path(file) for what, file in files.items() if file is not None}
        if options["serial"] == "stdio" and options["replay"] is None and sys.stdin is not None:
            inputs["standard input"] = 0
        return inputs

    def _input_log(self) -> Log | None:
        """What --replay gives."""
        from hvmx.hvm.input_log import read_file

        if self.options["replay"] is None:
            return None
        path, seed = Path(self.options["replay"]), self.options["seed"]
        try:
            log = read_file(path)
        except (OSError, ValueError) as problem:
            raise click.UsageError(f"--replay: {problem}") from problem
        if log.seed != seed:
            raise click.UsageError(f"--replay: {path}: was recorded with --seed {log.seed}")
        return log

    def _symbols(self) -> Symbols | None:
        """The names of the guest's code that --hot asks for; those of an image that is an ELF file, where it names no other."""
        from hvmx.report.symbols import NO_SYMBOLS, is_elf, read_symbols

        image, given = self.options["image"], self.options["symbols"]
        if self.options["hot"] is None:
            if given is not None:
                raise click.UsageError("--symbols is for --hot")
            return None
        if given is None:
            with suppress(ValueError):  # an image may be stripped
                if image is not None and is_elf(image):
                    return read_symbols(image)
            return NO_SYMBOLS
        try:
            return read_symbols(Path(given))
        except (OSError, ValueError) as problem:
            raise click.UsageError(f"--symbols: {given}: {problem}") from problem

    def _hot(self, machine: Machine, symbols: Symbols, report: Report) -> None:
        """What --hot gets."""
        from hvmx.report.hot import HotReport

        found = HotReport(machine.cpu.hot_blocks(), symbols, machine.profile)
        with report.written() as out:
            found.writer(str(self.options["hot"]))(out)

    def _perfetto(self, machine: Machine, report: Report) -> None:
        """What --perfetto gets."""
        from hvmx.report.perfetto import Timeline, write_trace

        options = self.options
        image = Path(options["image"] or options["bios"]).name
        way = "PV" if options["pv"] else options["paging"]
        timeline = Timeline(f"{image} ({way}, {machine.profile.name})", *machine.cpu.timeline())
        with report.written() as out:
            write_trace(out.buffer, [timeline])
        if timeline.dropped:
            click.echo(f"--perfetto: {timeline.dropped:,} later events had no room", err=True)

    def _record(self, machine: Machine, report: Report) -> None:
        """What --record gets."""
        assert machine.board is not None
        with report.written() as out:
            machine.board.input.write(out, machine.seed)

    def _finish(self, machine: Machine, stop: Stop | None, ended: str, stats: Report | None) -> None:
        """Say what there is to say, however the run ended."""
        from hvmx.debug.crash import crash_report

        if stop is not None and stop.kind in (StopKind.TRIPLE_FAULT, StopKind.CRASHED):
            click.echo(crash_report(machine.cpu, ended), err=True)
        counts = {**machine.statistics(), "host_seconds": self.host_seconds}
        counts["stop"] = None if stop is None else stop.kind.name.lower()
        if self.options["with_hash"]:
            counts["hash"] = machine.state_hash()
        try:
            if stats is not None:
                with stats.written() as out:
                    json.dump(counts, out, indent=2)
                    out.write("\n")
        finally:
            if not self.options["quiet"]:
                self._summary(machine, ended, counts)

    def _summary(self, machine: Machine, ended: str, counts: dict[str, Any]) -> None:
        from hvmx.report.caches import caches_in_words
        from hvmx.report.exit_table import exit_table, host_time_table, hypercall_table, hypercall_time_table

        click.echo(f"\nhvmx: {ended}", err=True)
        if statistics := machine.exits.statistics():
            print_table(exit_table(statistics), err=True)
            print_table(host_time_table(statistics), err=True)
        if machine.domain is not None and (calls := machine.hypercall_statistics()):
            print_table(hypercall_table(calls), err=True)
            print_table(hypercall_time_table(calls), err=True)
        names = ("guest_cycles", "instructions", "mispredictions", "hypercalls", "tlb_misses", "walk_references")
        figures = ", ".join(f"{counts[name]:,} {name.replace('_', ' ')}" for name in names)
        figures += f"\n{machine.profile.accuracy}\n{caches_in_words(machine.cpu.cache_hits())}"
        click.echo(f"{figures}\n{self.host_seconds:.2f} s of host time", err=True)
        if "hash" in counts:
            click.echo(f"state {counts['hash']}", err=True)
