"""The command line: ``hvmx run``, ``hvmx compare`` and ``hvmx isa``."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
from click.core import ParameterSource

from hvmx.boot import ImageError
from hvmx.cost import BUNDLED, Profile, load_profile, marks_in_words
from hvmx.isa.levels import DEFAULT_LEVEL, LEVELS
from hvmx.options import (
    ADDRESS,
    CYCLES,
    PORT,
    SEED,
    CostProfile,
    HostSeconds,
    MemorySize,
    PortAndFile,
    Trace,
)

if TYPE_CHECKING:
    from hvmx.hvm.console import KeySource, StreamSink
    from hvmx.hvm.input_log import Log
    from hvmx.machine import Machine, Stop
    from hvmx.outputs import Report


class Status(IntEnum):
    """Exit statuses. All are even: a write to the debug-exit port gives the odd ones, as with QEMU."""

    GOOD = 0
    BAD_OPTION = 2
    BAD_IMAGE = 4
    CRASH = 6
    LIMIT = 8
    INTERNAL = 10
    RESET = 12
    STOPPED = 14
    UNWRITABLE = 16
    INTERRUPTED = 130


STATUS_HELP = """\b
Exit status:
    0  the guest powered off, or halted for good with nothing to wake it
    (VALUE << 1) | 1  it wrote VALUE to the debug-exit port (modulo 256)
    2  a bad option        4  a bad image
    6  the guest crashed (triple fault, or Xen would have killed it)
    8  --max-cycles or --timeout was reached, also while a pipe waited for its other end
   10  an error of hvmx's own
   12  the guest reset the machine
   14  stopped by Ctrl-A x, SIGTERM or SIGHUP, or nobody reads standard output any more
   16  what it had to say could not be written: standard output, --stats, --serial, ...
  130  stopped by Ctrl-C
"""


class Terminated(BaseException):
    """SIGTERM or SIGHUP: the run ends as by Ctrl-C, with its reports and the terminal as it was."""


class TimedOut(BaseException):
    """--timeout was reached before the guest ran: while a file was waited for, or loaded."""


MEMORY_OPTION = click.option(
    "--memory",
    type=MemorySize(),
    default="128M",
    show_default=True,
    help="Guest RAM: bytes, or with K, M or G.",
)


class ProfileOption(click.Option):
    """Its help says what the figures of the bundled profiles are."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        known = (f"{name} ({marks_in_words(load_profile(name).marks())})" for name in BUNDLED)
        self.help = (
            f"What operations cost in guest cycles, by figures that are published, fitted to published ones, or "
            f"assumed: {', '.join(known)}, or a TOML file of your own."
        )
        return super().get_help_record(ctx)


PROFILE_OPTION = click.option(
    "--profile", cls=ProfileOption, type=CostProfile(), default="skylake", show_default=True
)


def _print_version(context: click.Context, option: click.Parameter, asked: bool) -> None:
    if not asked:
        return
    from importlib.metadata import PackageNotFoundError, version  # slow to import

    try:
        number = version("hvmx")
    except PackageNotFoundError:  # run from a source tree
        number = "of a source tree"
    click.echo(f"hvmx, version {number}")
    context.exit()


class _Unwritable(BaseException):
    """Carries an OSError past click, which would end the program by it in its own way."""

    def __init__(self, problem: OSError) -> None:
        self.problem = problem


class Commands(click.Group):
    """The commands, whose output, be it help, may have nowhere to go."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        try:
            return super().make_context(*arguments, **options)
        except OSError as problem:
            raise _Unwritable(problem) from problem

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as problem:
            raise _Unwritable(problem) from problem


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def commands() -> None:
    """One deterministic x86 machine, and two ways to virtualise it.

    The same guest runs as HVM (unmodified, on virtual hardware: sensitive operations exit to a handler) or as PV (its
    kernel asks by hypercall), and hvmx says in guest cycles and in counts what the difference costs. Guest cycles are
    cycle-approximate, by a cost profile most of whose figures are assumed (see --profile of each command), and the
    same on every host; host time is always called so.

    \b
    hvmx compare                        the bundled guest in all three ways, in one table
    hvmx run                            the bundled guest as HVM; with --pv as PV
    hvmx run --append "console=ttyS0" --initrd tiny.cpio vmlinuz
    """


# --- hvmx run -----------------------------------------------------------------------------------------------------------
@commands.command(epilog=STATUS_HELP)
@click.option("--pv", is_flag=True, help="Run a Xen PV kernel as a paravirtual guest.")
@MEMORY_OPTION
@PROFILE_OPTION
@click.option(
    "--cpu",
    type=click.Choice(list(LEVELS)),
    help="The processor's level: its instructions and CPUID; above it an instruction is #UD, or has its older "
    "meaning. Default: the profile's (skylake: x86-64-v2, p4-672: x86-64-v1).",
)
@click.option(
    "--paging",
    type=click.Choice(["ept", "shadow"]),
    default="ept",
    show_default=True,
    help="HVM: nested paging (long walks, rare exits) or shadow paging (exits on page-table work).",
)
@click.option(
    "--append",
    default="",
    metavar="S",
    help="The kernel's command line; a Multiboot kernel's begins with the image's name.",
)
@click.option("--initrd", metavar="F", help="An initial RAM disk.")
@click.option(
    "--module", "modules", multiple=True, metavar="F", help="A Multiboot or PVH module; repeatable."
)
@click.option("--bios", metavar="F", help="A ROM image for the reset vector, instead of IMAGE.")
@click.option("--load-address", type=ADDRESS, help="Flat binary: where it is loaded.")
@click.option("--entry", type=ADDRESS, help="Flat binary: where it is entered.")
@click.option(
    "--bits", type=click.Choice(["16", "32", "64"]), help="Flat binary: the width it is entered in."
)
@click.option("--no-decompress", is_flag=True, help="Let a bzImage decompress itself, in the guest.")
@click.option(
    "--serial",
    default="stdio",
    show_default=True,
    metavar="stdio|FILE|null",
    help="Where the guest's serial port (PV: console) goes; stdio also gives it standard input. On a terminal, "
    "Ctrl-A x stops the run.",
)
@click.option(
    "--debug-exit", type=PORT, help="A write of VALUE there ends the run with status (VALUE << 1) | 1."
)
@click.option(
    "--debugcon", type=PortAndFile(), help="A port whose bytes go to FILE (standard error without)."
)
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="What RDRAND and RDSEED draw their numbers from."
)
@click.option("--record", metavar="FILE", help="Write the guest's input and when it came.")
@click.option("--replay", metavar="FILE", help="Give the guest the input that --record wrote, and no other.")
@click.option("--max-cycles", type=CYCLES, help="Stop after so many guest cycles.")
@click.option("--timeout", type=HostSeconds(), help="Stop after so many seconds of host time.")
@click.option("--stats", metavar="FILE.json", help="Write the counts of the run to a file.")
@click.option(
    "--hash",
    "with_hash",
    is_flag=True,
    help="A hash of the final memory and registers, in --stats and at the end.",
)
@click.option(
    "--trace", type=Trace(), help="A line for each exit or instruction, to FILE (standard error without)."
)
@click.option("--quiet", is_flag=True, help="No exit table, no closing line.")
@click.argument("image", required=False)
def run(**options: Any) -> int:
    """Run a guest to its end.

    IMAGE is a file, whose format is told by its content (Linux bzImage, Multiboot or PVH ELF, with --pv an ELF with
    Xen's notes; a flat binary needs --load-address, --entry or --bits), or the name of a bundled guest: hvmx-hvm32,
    hvmx-hvm64, hvmx-pv64, or one workload of one, such as test-hvm64-pgfault. Without IMAGE or --bios it is
    hvmx-hvm64, or hvmx-pv64 with --pv. A bundled guest checks itself first, unless --append has checks=no; with
    workloads=A,B,... it runs these. What an operation costs is the same each way, and hvmx compare's figure.

    The guest's console is standard output, everything else standard error, which is - as a FILE to write. No file is
    touched before the guest is loaded; --stats and --record are written at the end, whole or not at all.
    """
    return _Run(options).run()


class _Run:
    """One ``hvmx run``."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.until = None if options["timeout"] is None else time.monotonic() + options["timeout"]
        self.host_seconds = 0.0

    def run(self) -> int:
        from hvmx.hvm.console import KeySource
        from hvmx.outputs import Outputs

        options = self.options
        image, append, pv = bundled_image(options["image"], options["append"], options["pv"], options["bios"])
        given = click.get_current_context().get_parameter_source("paging")
        if pv and given is not ParameterSource.DEFAULT:
            raise click.UsageError("--paging is for HVM: a PV guest's page tables are the processor's own")
        with ExitStack() as stack:
            with _time_limit(self.until):
                outputs = Outputs(self._outputs(), self._inputs(image))
                log = self._input_log()
                serial, keys = outputs.sink("serial"), None
                if options["serial"] == "stdio" and log is None and sys.stdin is not None:
                    keys = KeySource(flush=None if serial is None else serial.flush)
                machine = self._machine(serial, keys, outputs.sink("debugcon"))
                self._load(machine, image, pv, append)
                trace, reports = outputs.open(stack, self.until)
            if keys is not None:
                stack.enter_context(keys)
            assert machine.board is not None
            if log is not None:
                machine.board.input.replay(log.entries)
            stop: Stop | None = None
            ended = ""
            start = time.perf_counter()
            try:
                stop = self._go(machine, trace)
                ended = stop.reason or stop.kind.value
            except BaseException as problem:
                ended = _INTERRUPTIONS.get(type(problem)) or f"{type(problem).__name__}: {problem}"
                raise
            finally:
                self.host_seconds = time.perf_counter() - start
                if stop is not None:
                    outputs.flush()
                try:
                    if "record" in reports:
                        with reports["record"].written() as out:
                            machine.board.input.write(out, machine.seed)
                finally:
                    self._finish(machine, stop, ended, reports.get("stats"))
        return status_of(stop)

    def _machine(
        self, serial: StreamSink | None, keys: KeySource | None, debug_console: StreamSink | None
    ) -> Machine:
        from hvmx.hvm.console import null_sink
        from hvmx.machine import Machine

        options = self.options
        try:
            return Machine(
                options["memory"],
                options["profile"],
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

    def _load(self, machine: Machine, image: Path | None, pv: bool, append: str) -> None:
        options = self.options
        try:
            machine.load(
                image,
                pv=pv,
                append=append,
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
        from hvmx.debug.trace import run_traced, trace_exits
        from hvmx.machine import Stop, StopKind

        run = machine.run
        if trace is not None:
            if self.options["trace"][0] == "instructions":
                run = partial(run_traced, machine, trace)
            else:
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
        named = {"serial": serial, "stats": options["stats"], "record": options["record"]}
        for option in ("debugcon", "trace"):
            named[option] = options[option] and (options[option][1] or stderr)
        return {option: place for option, place in named.items() if place is not None}

    def _inputs(self, image: Path | None) -> dict[str, Path | int]:
        """The files that are read."""
        options = self.options
        files = {"the image": image, **{f"--{name}": options[name] for name in ("bios", "initrd", "replay")}}
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

    def _finish(self, machine: Machine, stop: Stop | None, ended: str, stats: Report | None) -> None:
        """Say what there is to say, however the run ended."""
        from hvmx.debug.crash import crash_report
        from hvmx.machine import StopKind

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
        from hvmx.report.exit_table import exit_table, host_time_table

        click.echo(f"\nhvmx: {ended}", err=True)
        if statistics := machine.exits.statistics():
            _print_table(exit_table(statistics), err=True)
            _print_table(host_time_table(statistics), err=True)
        names = ("guest_cycles", "instructions", "hypercalls", "tlb_misses", "walk_references")
        figures = ", ".join(f"{counts[name]:,} {name.replace('_', ' ')}" for name in names)
        click.echo(f"{figures}\n{self.host_seconds:.2f} s of host time", err=True)
        if "hash" in counts:
            click.echo(f"state {counts['hash']}", err=True)


_INTERRUPTIONS = {KeyboardInterrupt: "interrupted", Terminated: "terminated"}
"""How a run is said to have ended that nothing in the machine ended."""


def bundled_image(
    image: str | None, append: str, pv: bool, bios: str | None
) -> tuple[Path | None, str, bool]:
    """The file, command line and kind of what ``hvmx run`` was asked for; a file of that name goes first."""
    from hvmx import guests

    if image is None:
        if bios is not None:
            return None, append, pv
        image = "hvmx-pv64" if pv else "hvmx-hvm64"
    path = Path(image)
    kind, _, name = image.partition("-")
    if os.path.exists(path) or kind not in ("hvmx", "test"):
        return path, append, pv
    name, _, workload = name.partition("-")
    if name not in guests.NAMES or (kind == "hvmx") == bool(workload):
        return path, append, pv
    if workload and workload not in guests.WORKLOADS:
        raise click.UsageError(f"{image}: no workload {workload!r}: there are {', '.join(guests.WORKLOADS)}")
    if pv and name != "pv64":
        raise click.UsageError(f"{image} is no PV guest: that one is hvmx-pv64")
    try:
        built = guests.image(name)
    except FileNotFoundError as problem:
        raise ImageError(str(problem)) from problem
    selected = guests.command_line([workload] if workload else [], append)
    return built, selected, name == "pv64"


def status_of(stop: Stop) -> int:
    """The exit status that tells how a run ended."""
    from hvmx.machine import StopKind

    if stop.kind is StopKind.DEBUG_EXIT:
        return (stop.value << 1 | 1) & 0xFF
    return {
        StopKind.POWEROFF: Status.GOOD,
        StopKind.HALTED: Status.GOOD,
        StopKind.TRIPLE_FAULT: Status.CRASH,
        StopKind.CRASHED: Status.CRASH,
        StopKind.CYCLES: Status.LIMIT,
        StopKind.TIMEOUT: Status.LIMIT,
        StopKind.RESET: Status.RESET,
        StopKind.REQUESTED: Status.STOPPED,
    }[stop.kind]


# --- hvmx compare -------------------------------------------------------------------------------------------------------
@commands.command("compare")
@MEMORY_OPTION
@PROFILE_OPTION
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@click.argument("workloads", nargs=-1, metavar="[OPERATION]...")
def compare_command(memory: int, profile: Profile, as_json: bool, workloads: Sequence[str]) -> int:
    """Compare HVM with nested paging, HVM with shadow paging, and PV.

    The bundled guest runs once each way, with the OPERATIONs given or with all. The table holds guest cycles per
    operation, each with the ratio to the cheapest way, then the counts of the whole runs. An operation that a way
    does not allow is left empty.
    """
    from hvmx import guests
    from hvmx.report.comparison import GuestFailed, compare, comparison_json, comparison_table

    for name in workloads:
        if name not in guests.WORKLOADS:
            raise click.UsageError(f"no operation {name!r}: there are {', '.join(guests.WORKLOADS)}")
    try:
        results = compare(profile, memory, workloads)
    except FileNotFoundError as problem:
        raise ImageError(str(problem)) from problem
    except MemoryError as problem:
        raise click.UsageError(str(problem)) from problem
    except GuestFailed as problem:
        click.echo(f"hvmx: {problem}", err=True)
        return Status.CRASH
    if as_json:
        click.echo(json.dumps(comparison_json(profile, results), indent=2))
    else:
        _print_table(comparison_table(profile, results))
    return Status.GOOD


# --- hvmx isa -----------------------------------------------------------------------------------------------------------
@commands.command("isa")
@click.option(
    "--cpu",
    type=click.Choice(list(LEVELS)),
    default=DEFAULT_LEVEL.name,
    show_default=True,
    help="The level that is asked about.",
)
@click.option(
    "--missing", is_flag=True, help="Encodings that belong to the level and that hvmx does not implement."
)
@click.option("--outside", is_flag=True, help="Extensions that belong to no level, and why.")
def isa_command(cpu: str, missing: bool, outside: bool) -> int:
    """List the instructions of a processor level.

    Without an option: the rows of the instruction table that the level has, a line each, with opcode, operation,
    operands, code widths and the feature that brings them. With --missing they are compared with the list of all
    x86 encodings that iced-x86 has: what belongs to the level and is not implemented is printed, with the code widths
    and iced-x86's names of its features. Nothing is printed where nothing is missing.

    \b
    hvmx isa --cpu pentium                     what a Pentium has
    hvmx isa | grep 'sse4.2$'                  what SSE4.2 adds
    hvmx isa --missing --cpu x86-64-v2         what hvmx lacks of x86-64-v2
    hvmx isa --outside                         what it does not intend to have
    """
    from hvmx.isa import coverage, rows

    if missing and outside:
        raise click.UsageError("--missing and --outside are two questions")
    level = LEVELS[cpu]
    if outside:
        for reason in dict.fromkeys(coverage.OUTSIDE.values()):
            names = (name for name, why in coverage.OUTSIDE.items() if why == reason)
            click.echo(f"{reason}: {' '.join(names)}")
    elif missing:
        for encoding, lacking in coverage.missing(level):
            click.echo(f"{encoding.line} ({', '.join(map(str, lacking))} bits)")
    else:
        for row in rows():
            if row.feature in level.features:
                widths = ",".join(str(width) for width in row.modes if width < 64 or "lm" in level.features)
                if widths:
                    operands = ",".join(row.operands)
                    click.echo(f"{row.text:18} {row.family:12} {operands:16} {widths:9} {row.feature}")
    return Status.GOOD


# --- the program --------------------------------------------------------------------------------------------------------
def _print_table(table: Any, err: bool = False) -> None:
    from rich.console import Console

    console = Console(stderr=err, highlight=False)
    # However narrow the terminal, no number is cut off.
    console.width = max(
        console.width, table.__rich_measure__(console, console.options.update(width=300)).maximum
    )
    console.print(table)


def _unwritable(problem: OSError) -> int:
    """Where output could not go; what is still to be flushed there goes nowhere, and silently."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if isinstance(problem, BrokenPipeError) and problem.filename is None:
        status, why = Status.STOPPED, "nobody reads standard output any more"
    else:
        where = problem.filename or "standard output or error"
        status, why = Status.UNWRITABLE, f"{where}: cannot be written: {problem.strerror}"
    with suppress(OSError):
        click.echo(f"hvmx: {why}", err=True)
    return status


@contextmanager
def _termination() -> Iterator[None]:
    """Signals that end a program raise ``Terminated``, unless they are ignored or somebody else's already."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: object) -> None:
        raise Terminated

    taken = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, terminate)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _time_limit(until: float | None) -> Iterator[None]:
    """What takes longer is ended by ``TimedOut``, whatever it waits for; only in the main thread, where signals are."""
    if until is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def time_out(number: int, frame: object) -> None:
        raise TimedOut

    before = signal.signal(signal.SIGALRM, time_out)
    try:
        # Again and again, as one may come just before the call that waits.
        signal.setitimer(signal.ITIMER_REAL, max(until - time.monotonic(), 1e-6), 0.1)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status, of ``Status`` or from the guest's debug-exit port."""
    try:
        status = _main(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except _Unwritable as carrier:
        return _unwritable(carrier.problem)
    except OSError as problem:  # of a message about any other problem
        return _unwritable(problem)


def _main(arguments: Sequence[str] | None) -> int:
    try:
        with _termination():
            result = commands.main(arguments, prog_name="hvmx", standalone_mode=False)
    except click.ClickException as problem:
        problem.show()
        return Status.BAD_OPTION
    except ImageError as problem:
        click.echo(f"hvmx: {problem}", err=True)
        return Status.BAD_IMAGE
    except TimedOut:
        click.echo("hvmx: timeout, before the guest was loaded and its files were open", err=True)
        return Status.LIMIT
    except (KeyboardInterrupt, click.Abort):
        return Status.INTERRUPTED
    except (Terminated, SystemExit):  # the latter is click's, where nobody reads its help
        return Status.STOPPED
    except Exception:  # noqa: BLE001 - the last stop before the user
        traceback.print_exc()
        click.echo("hvmx: this is an error of hvmx's own, not of the guest's", err=True)
        return Status.INTERNAL
    return int(result or 0)
