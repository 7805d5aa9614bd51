"""``hvmx validate``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hvmx.boot import ImageError
from hvmx.cli.options import CACHES_OPTION, CostProfile, Number, profile_as_asked
from hvmx.cli.outputs import json_output
from hvmx.cli.progress import progress_bars
from hvmx.cli.status import Status
from hvmx.cli.table import print_table
from hvmx.cost import BUNDLED, Profile, load_profile

if TYPE_CHECKING:
    from hvmx.validation.results import Native
    from hvmx.validation.suite import Program

DEFAULT_PROFILE = "skylake"


@click.command("validate")
@click.option(
    "--profile",
    type=CostProfile(),
    help="The profile to judge: a bundled one, or a TOML file of your own, as `hvmx calibrate` writes. Unless given, the one "
    f"that is meant for this host's processor, or else {DEFAULT_PROFILE}.",
)
@CACHES_OPTION
@click.option("--only", "pattern", metavar="GLOB", default="*", help="Only programs whose names match, as files' do in a shell.")
@click.option("--list", "list_only", is_flag=True, help="Say what each program does, and run none.")
@click.option(
    "--sort", type=click.Choice(["name", "error"]), default="name", show_default=True, help="By error: the worst first."
)
@click.option(
    "--json",
    "output",
    metavar="FILE",
    help="Write the same as JSON too; to - (standard output) instead of the table.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take what was measured from an earlier --json FILE, instead of measuring: on a busy host, or for a processor that "
    "is not here.",
)
@click.option("--repetitions", type=Number(10, 100_000), default="200", show_default=True, help="Calls of a program in a row.")
@click.option("--rounds", type=Number(1, 1000), default="3", show_default=True, help="Times that all of it is measured.")
@click.option(
    "--at-most",
    type=click.FloatRange(min=0),
    metavar="PERCENT",
    help="Fail (exit status 20) if the mean absolute error over all is greater.",
)
def validate_command(
    profile: Profile | None,
    caches: bool | None,
    pattern: str,
    list_only: bool,
    sort: str,
    output: str | None,
    against: Path | None,
    repetitions: int,
    rounds: int,
    at_most: float | None,
) -> int:
    """Hold the model's cycles against this host's processor.

    Each program of a suite (integer, branches, calls, strings, floating point, 64 and 32 bits, all within the first-level
    caches) runs on the processor itself, in a process of its own, and in hvmx. The table has the guest cycles that the
    profile predicts for one call beside the core cycles that the call takes, and the error: +20% says that hvmx counts a
    fifth too many. Core cycles are ticks of the time-stamp counter, scaled by a chain of instructions of known length
    around each call; the best of many calls count, and it takes some ten seconds of host time.

    It judges a profile of this very processor. With another's the table says how the two differ, and says so.

    Programs marked d have branches that follow from data, new in each call: a processor mispredicts many, and how many is
    up to its predictor. A mean without them follows the mean of all.

    \b
    hvmx validate                            this host's profile, all programs
    hvmx validate --profile mine.toml --only 'sse-*' --sort error
    hvmx validate --json host.json           and then, without measuring again:
    hvmx validate --against host.json --profile mine.toml --at-most 15

    \b
    Exit status:
        0  it was measured, and what the model computed is right
        2  a bad option                4  the programs were not built here
       10  an error of hvmx's own: it computed something else than the processor
       18  this host cannot tell: it is no x86-64 Linux, or is too busy
       20  the error is greater than --at-most
    """
    from hvmx.validation import suite

    try:
        programs = suite.select(pattern)
    except ValueError as problem:
        raise click.BadParameter(str(problem), param_hint="--only") from problem
    if list_only:
        for program in programs:
            branches = "" if program.predictable else " [branches by data]"
            click.echo(f"{program.name:24} {program.bits} bits{branches}: {program.about}")
        return Status.GOOD
    profile = profile_as_asked(profile or _profile_of_host(), caches)
    return _validate(profile, programs, sort, output, against, repetitions, rounds, at_most)


def _profile_of_host() -> Profile:
    from hvmx.cost.native_processor import profile_of_processor

    name = profile_of_processor()
    return load_profile(name if name in BUNDLED and name is not None else DEFAULT_PROFILE)


def _validate(
    profile: Profile,
    programs: Sequence[Program],
    sort: str,
    output: str | None,
    against: Path | None,
    repetitions: int,
    rounds: int,
    at_most: float | None,
) -> int:
    from hvmx.cost.native import NativeError
    from hvmx.validation.modelled import ModelError
    from hvmx.validation.results import measure_all, predict_all, validation, validation_json
    from hvmx.validation.table import validation_table

    processor = meant = None
    with ExitStack() as stack:
        write_json = json_output(stack, output, {} if against is None else {"the file of --against": against})
        try:
            with progress_bars() as bars:
                if against is None:
                    task = bars.add_task("on this processor", total=rounds * len(programs))
                    done = partial(bars.advance, task)
                    native = measure_all(programs, repetitions=repetitions, rounds=rounds, done=done)
                else:
                    native, processor, meant = _measured_before(against, programs)
                task = bars.add_task("in the model", total=len(programs))
                predicted = predict_all(programs, profile, done=partial(bars.advance, task))
        except FileNotFoundError as problem:
            raise ImageError(str(problem)) from problem
        except NativeError as problem:
            click.echo(f"hvmx: {problem}", err=True)
            return Status.UNABLE
        except ModelError as problem:
            click.echo(f"hvmx: {problem}", err=True)
            return Status.INTERNAL
        found = validation(profile, predicted, native, programs, processor, meant)
        instead_of_table = write_json(validation_json(found))
    if not instead_of_table:
        rows = sorted(found.rows, key=lambda row: -abs(row.error)) if sort == "error" else list(found.rows)
        print_table(validation_table(found, rows))
    if found.wrong:
        names = ", ".join(row.program.name for row in found.wrong)
        click.echo(f"hvmx: the model computed something else than the processor: {names}", err=True)
        return Status.INTERNAL
    if found.too_noisy:
        click.echo("hvmx: the host was too busy: calls that do the same took different times (~); try again later", err=True)
        return Status.UNABLE
    error = found.mean_absolute_error()
    if at_most is not None and error is not None and error * 100 > at_most:
        click.echo(f"hvmx: the mean absolute error is {error:.1%}, more than {at_most:g}%", err=True)
        return Status.EXCEEDED
    return Status.GOOD


def _measured_before(path: Path, programs: Sequence[Program]) -> tuple[dict[str, Native], str, str | None]:
    """What the file says, the processor that it is of, and the profile that is meant for that."""
    from hvmx.validation.results import StaleMeasurement, native_from_json

    try:
        content = json.loads(path.read_text())
        return native_from_json(content, programs), str(content["processor"]), content["profile_of_processor"]
    except StaleMeasurement as problem:
        raise click.BadParameter(f"{path}: {problem}", param_hint="--against") from problem
    except OSError as problem:
        raise click.BadParameter(f"{path}: {problem.strerror}", param_hint="--against") from problem
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise click.BadParameter(
            f"{path}: is not what `hvmx validate --json` writes ({problem!r})", param_hint="--against"
        ) from problem
