"""The program: its commands, and what becomes of what they raise."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import click

from hvmx.boot import ImageError
from hvmx.cli.calibrate import calibrate_command
from hvmx.cli.compare import compare_command
from hvmx.cli.inspect import inspect_command
from hvmx.cli.interruptions import Terminated, TimedOut, termination
from hvmx.cli.isa import isa_command
from hvmx.cli.profiles import profiles_command
from hvmx.cli.reproduce import reproduce_command
from hvmx.cli.run import run_command
from hvmx.cli.status import Status
from hvmx.cli.validate import validate_command


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
    cycle-approximate, by a cost profile some of whose figures are assumed (see --profile of each command), and the
    same on every host; host time is always called so.

    \b
    hvmx compare                        the bundled guest each way, and natively, in one table
    hvmx profiles show skylake          what the figures are, and where they come from
    hvmx run                            the bundled guest as HVM; with --pv as PV
    hvmx run --append "console=ttyS0 acpi=off" --initrd tiny.cpio vmlinuz
    hvmx inspect vmlinuz                what an image is, and how it can run
    hvmx validate                       a profile's guest cycles beside this host's processor
    hvmx reproduce adams-agesen-2006    a published table, and what the model predicts of it
    hvmx reproduce linux-signs          stock Linux's services in all three ways
    """


for _command in (
    run_command, inspect_command, compare_command, profiles_command, calibrate_command, validate_command, reproduce_command,
    isa_command,
):  # fmt: skip
    commands.add_command(_command)


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
        with termination():
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
